/**
 * Owns the proof that a tuple which our FIN has closed rests for as long as the kernel asks: in a namespace whose kernel takes no such tuple over, a run
 * has exactly as many source ports as the plan asks for, and goes on until each that was closed first has come again.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunReport } from '../../src/judge/report.ts';
import { startAt, temporaryFolder } from '../support/agents.ts';
import { until } from '../support/bench-run.ts';
import { createNetwork } from '../support/network.ts';
import { networkTest } from '../support/network-test.ts';

const CONNECTIONS = 20;
const PER_SEC = 2;
/** Longer than the minute of TIME_WAIT, so that the first that were closed are opened again. */
const HOLD_SEC = 74;
/** What the plan says: those that are open, and those that rest, with two seconds for what is late. */
const PORTS = CONNECTIONS + PER_SEC * 67;
const FIRST_PORT = 20_000;

function flagsWith(ports: number): string[] {
  return [
    ...[
      '--target',
      '127.0.0.1:8000',
      '--conns',
      `${CONNECTIONS}`,
      '--churn',
      `${PER_SEC}/s`,
      '--close',
      'fin',
    ],
    ...['--source-ip', '127.0.0.2', '--source-ports', `${FIRST_PORT}-${FIRST_PORT + ports - 1}`],
  ];
}

networkTest(
  'as many ports as the plan asks for are enough for connections that come and go by FIN, one less is refused',
  async (t) => {
    const network = await createNetwork(t, {
      // Without both the kernel gives a tuple in TIME_WAIT to a new connection, and nothing would have to rest.
      alone: { on: {}, sysctls: { 'net.ipv4.tcp_tw_reuse': 0, 'net.ipv4.tcp_timestamps': 0 } },
    });
    const host = network.host('alone');
    startAt(t, { host }, ['serve', '--host', '127.0.0.1', '--port', '8000']);
    await until('it listens', 60_000, async () => (await host.must('ss', '-Hltn')).includes(':8000'));
    const path = join(temporaryFolder(t), 'report.json');
    const run = host.startBench([...flagsWith(PORTS), '--duration', `${HOLD_SEC}s`, '--json', path], {
      timeoutMs: 200_000,
    });
    const refused = await host.bench(['plan', ...flagsWith(PORTS - 1)], { timeoutMs: 60_000 });
    assert.equal(refused.code, 3, refused.stdout);
    await run.saw(/ holding /);
    let restingMax = 0;
    while (run.child.exitCode === null) {
      const resting = await host.must('ss', '-Htn', 'state', 'time-wait', 'dport = :8000');
      restingMax = Math.max(restingMax, resting.split('\n').filter(Boolean).length);
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
    const { code, stdout, stderr } = await run.result;
    assert.equal(code, 0, stdout + stderr);
    const { connections, load } = JSON.parse(readFileSync(path, 'utf8')) as RunReport;
    assert.deepEqual([connections.failed, connections.localSkips, connections.held], [{}, {}, CONNECTIONS]);
    const churned = load?.churned ?? 0;
    assert(churned > PORTS - CONNECTIONS, `${churned} came and went on ${PORTS} ports: some have come again`);
    // Of a minute, but for what a look each two seconds leaves out.
    assert(restingMax > PER_SEC * 50, `the kernel had ${restingMax} at rest at most`);
  },
);
