/** Owns the proof that processes are counted as the kernel counts them: thread by thread. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TaskRoom } from '../../src/host/proc-file.ts';
import { processesFinding, tasksNeeded } from '../../src/plan/cost.ts';
import { planHost } from '../../src/plan/host-plan.ts';
import { FACTS, SPEC } from './plan-fixture.ts';

const OF_USER: TaskRoom = { by: 'ulimit -u', limit: 100, free: 60 };

test('holders that fit are ok, one more is refused with the arithmetic and a limit that will do', () => {
  assert.equal(processesFinding(4, '4 holders', OF_USER).severity, 'ok');
  const refused = processesFinding(5, '5 holders', OF_USER);
  assert.equal(refused.severity, 'refuse');
  assert.equal(
    refused.message,
    'needs 71 tasks (5 holders x 11 threads, 16 for the agent), has 60 (ulimit -u 100 less 40 in use)',
  );
  assert.equal(refused.fix, 'sudo prlimit --pid $$ --nproc=111:111');
  assert.equal(
    processesFinding(5, '', { by: 'ulimit -u', limit: 111, free: 71 }).severity,
    'ok',
    'it will do',
  );
  const inGroup = processesFinding(5, '5 holders', { ...OF_USER, by: 'pids.max' });
  assert.match(inGroup.fix ?? '', /docker --pids-limit 111, systemd TasksMax=111/);
});

test('where no limit is known nothing is refused', () => {
  assert.equal(processesFinding(256, '256 holders', null).severity, 'ok');
});

test('a plan is bound by tasks exactly where its holders do not fit', () => {
  const spec = { ...SPEC, connections: 100_000, holders: null };
  const request = { spec, wanted: 100_000, addresses: ['127.0.0.2', '127.0.0.3', '127.0.0.4'] };
  const few = planHost({ ...request, facts: { ...FACTS, nofileHard: 10_064, tasks: OF_USER } });
  assert.equal(few.boundBy, 'processes');
  assert.equal(few.capacityMax, 40_000, 'four holders of 10,000');
  assert.ok(few.findings.some(({ what, severity }) => what === 'processes' && severity === 'refuse'));
  const enough = { ...OF_USER, free: tasksNeeded(100_000, few.shape) };
  const plan = planHost({ ...request, facts: { ...FACTS, nofileHard: 10_064, tasks: enough } });
  assert.equal(plan.capacityMax, 100_000);
  assert.ok(plan.findings.every(({ what, severity }) => what !== 'processes' || severity === 'ok'));
});

test('holders that begin together leave their agent a core, or are refused with their arithmetic', () => {
  const findingsOf = (holders: number | null, connections: number, cpus: number) =>
    planHost({
      spec: { ...SPEC, connections, holders },
      wanted: connections,
      addresses: ['127.0.0.2'],
      facts: { ...FACTS, cpus },
    }).findings.filter(({ what }) => what === 'holders');
  const [refused] = findingsOf(256, 2_560, 2);
  assert.equal(refused?.severity, 'refuse');
  assert.equal(
    refused?.message,
    '256 holders that begin together take 6.4 s (256 x 50 ms on 2 cores), in which the agent waits for a core; ' +
      'it must be heard within 5.0 s',
  );
  assert.equal(refused?.fix, '--holders 200');
  assert.deepEqual(findingsOf(200, 2_560, 2), [], 'what the fix says will do');
  assert.deepEqual(findingsOf(256, 2_560, 4), []);
  assert.deepEqual(findingsOf(256, 100, 2), [], 'no more of them than connections');
  assert.deepEqual(findingsOf(null, 2_560, 2), []);
});

test('where tasks are few there are fewer holders than cores, if their descriptors suffice', () => {
  const planOf = (holders: number | null, free: number, nofileHard = 20_064) =>
    planHost({
      spec: { ...SPEC, connections: 40_000, holders },
      wanted: 40_000,
      addresses: ['127.0.0.2', '127.0.0.3'],
      facts: { ...FACTS, cpus: 8, nofileHard, tasks: { by: 'pids.max', limit: 500, free } },
    });
  const processesOf = (plan: ReturnType<typeof planHost>) =>
    plan.findings.find(({ what }) => what === 'processes');
  assert.equal(planOf(null, 16 + 8 * 11).holders, 8);
  const fewer = planOf(null, 16 + 3 * 11);
  assert.deepEqual([fewer.holders, fewer.capacityMax >= 40_000], [3, true]);
  assert.equal(processesOf(fewer)?.severity, 'ok');
  assert.match(processesOf(fewer)?.message ?? '', /3 instead of 8 holders$/);
  assert.equal(processesOf(planOf(null, 16 + 11))?.severity, 'refuse', 'descriptors need two');
  // What was typed is not changed: the fix says what fits.
  const asked = processesOf(planOf(6, 16 + 3 * 11));
  assert.deepEqual([asked?.severity, asked?.fix], ['refuse', '--holders 3']);
  const none = processesOf(planOf(6, 16 + 11));
  assert.match(none?.fix ?? '', /--pids-limit/, 'one holder has not enough descriptors');
});
