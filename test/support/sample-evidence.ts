/**
 * Owns evidence with every field filled, for the tests of everything that adds it up, checks it or shows it.
 */
import type { Evidence } from '../../src/stats/evidence.ts';
import { LatencyRecorder } from '../../src/stats/histogram.ts';

function timesOf(ms: number): Evidence['lossAgeMs']['fin'] {
  const recorder = new LatencyRecorder();
  recorder.record(ms);
  return { histogram: recorder.sparse(), leastMs: ms, mostMs: ms };
}

/** @param times counts are this often what they are at 1, and times of losses this many seconds */
export function evidenceOf(times: number): Evidence {
  const place = (asked: number): Evidence['byEndpoint'][string] => ({
    asked: asked * times,
    established: 6 * times,
    failed: { refused: times, timeout: times },
    dropped: { fin: 2 * times },
  });
  return {
    connectsAt: { folds: 0, counts: { established: [6 * times], answeredNo: [0, times], silent: [times] } },
    lossesAt: { folds: 0, counts: { fin: [0, 0, 2 * times], rst: [], silent: [], other: [] } },
    lossAgeMs: { fin: timesOf(1_000 * times), rst: timesOf(2_000 * times) },
    lossSilenceMs: { fin: timesOf(500 * times), rst: timesOf(600 * times) },
    byEndpoint: { '10.0.9.9:80': place(10) },
    bySourceOutcome: { '10.0.0.1': place(10) },
    byPortBlock: {
      asked: [10 * times],
      established: [6 * times],
      answeredNo: [times],
      silent: [times],
    },
    gapsBetweenFailures: [0, times],
    said: { texts: [{ text: '-ERR max', first: times, last: 0 }], other: times },
    notSent: times,
    notAcknowledged: 2 * times,
    acknowledged: 3 * times,
    lostUnanswered: { fin: times, rst: 2 * times },
    finalCheck: {
      rampEnd: { asked: 10 * times, answered: 10 * times, reset: 0, silent: 0 },
      holdEnd: { asked: 10 * times, answered: 5 * times, reset: 3 * times, silent: 2 * times },
    },
  };
}
