/**
 * Owns the question whether opening slows down while one source address runs out of ports.
 */
import assert from 'node:assert/strict';
import { type Figure, figure } from './figure.ts';
import { Fleet } from './fleet.ts';
import type { Yardstick } from './yardstick.ts';

const CONNECTIONS = 64_000;
const HOLDERS = 4;
const SAMPLE_EVERY_MS = 20;

interface Sample {
  readonly atMs: number;
  readonly established: number;
}

/** When so many were established, between two samples on a straight line. */
function momentOf(samples: readonly Sample[], established: number): number {
  const index = samples.findIndex((sample) => sample.established >= established);
  assert(index >= 0, `${established} were never established`);
  const after = samples[index]!;
  const before = samples[index - 1];
  if (before === undefined || after.established === before.established) return after.atMs;
  const share = (established - before.established) / (after.established - before.established);
  return before.atMs + share * (after.atMs - before.atMs);
}

/** 64,000 connections from one source address to one endpoint. */
export async function measureFillRate(yardstick: Yardstick): Promise<Figure[]> {
  const server = await yardstick.serve(8);
  const fleet = new Fleet({
    port: server.port,
    connections: CONNECTIONS,
    holders: HOLDERS,
    addresses: ['127.0.0.2'],
    pendingMax: 1_000,
  });
  try {
    await fleet.prepare();
    const samples: Sample[] = [{ atMs: performance.now(), established: 0 }];
    const opening = fleet.open(120_000);
    while (samples.at(-1)!.established < CONNECTIONS && samples.length < 10_000) {
      const { established } = await fleet.read();
      samples.push({ atMs: performance.now(), established });
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_EVERY_MS));
    }
    await opening;
    assert.equal((await fleet.read()).open, CONNECTIONS, 'all are open from one address');
    const rates: number[] = [];
    for (let tenth = 0; tenth < 10; tenth++) {
      const from = momentOf(samples, (CONNECTIONS / 10) * tenth);
      const to = momentOf(samples, (CONNECTIONS / 10) * (tenth + 1));
      rates.push(Math.round(CONNECTIONS / 10 / ((to - from) / 1_000)));
    }
    return [
      figure({
        name: 'fill-rate-ratio',
        meaning: `connects a second in the last tenth over the first tenth, ${CONNECTIONS} from one source address`,
        value: rates[9]! / rates[0]!,
        unit: '',
        bound: 0.7,
        boundIs: 'at-least',
        samples: rates,
      }),
    ];
  } finally {
    await fleet.stop();
    await server.stop();
  }
}
