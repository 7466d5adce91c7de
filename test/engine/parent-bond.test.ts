/** Tests the bond to a parent with real processes: who is stopped when its parent is killed, and who came too late. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { parentPidOf } from '../../src/engine/parent-bond.ts';
import { until } from '../support/waiting.ts';
import { BOND_ENTRY } from './parent-bond-entry.ts';

/** The state letter of /proc/PID/stat; null when there is no such process, or it is a zombie that its parent has not waited for yet. */
function stateOf(pid: number): string | null {
  try {
    const state = /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))?.[1] ?? null;
    return state === 'Z' ? null : state;
  } catch {
    return null;
  }
}

interface Pair {
  readonly parent: ChildProcess;
  readonly childPid: number;
}

/** A parent and its child, which is bound and stopped. */
async function stoppedPair(t: TestContext, bond: 'end' | 'wake' | 'none'): Promise<Pair> {
  const parent = spawn(process.execPath, [BOND_ENTRY, 'parent', bond], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [text] = (await once(parent.stdout!, 'data')) as [Buffer];
  const childPid = Number(String(text).trim());
  t.after(() => {
    for (const pid of [childPid, parent.pid ?? 0]) if (stateOf(pid) !== null) process.kill(pid, 'SIGKILL');
  });
  process.kill(childPid, 'SIGSTOP');
  await until('the child is stopped', () => stateOf(childPid) === 'T');
  parent.kill('SIGKILL');
  await once(parent, 'exit');
  return { parent, childPid };
}

test('a stopped process that ends with its parent is killed when the parent is', async (t) => {
  const { childPid } = await stoppedPair(t, 'end');
  await until('the child is gone', () => stateOf(childPid) === null);
});

test('a stopped process that wakes at the end of its parent goes on', async (t) => {
  const { childPid } = await stoppedPair(t, 'wake');
  await until('the child goes on', () => stateOf(childPid) === 'S');
});

test('without a bond a stopped process stays, which is why there is one', async (t) => {
  const { childPid } = await stoppedPair(t, 'none');
  assert.equal(stateOf(childPid), 'T');
});

/** Children of a parent that is killed: of a program that knows of no bond, stopped in the turn that forked them. */
async function orphans(t: TestContext, bond: 'kill' | 'wake' | 'none'): Promise<number[]> {
  const parent = spawn(process.execPath, [BOND_ENTRY, 'binder', bond], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [text] = (await once(parent.stdout!, 'data')) as [Buffer];
  const pids = String(text).trim().split(' ').map(Number);
  t.after(() => {
    for (const pid of [...pids, parent.pid ?? 0]) if (stateOf(pid) !== null) process.kill(pid, 'SIGKILL');
  });
  await until('the children are stopped', () => pids.every((pid) => stateOf(pid) === 'T'));
  parent.kill('SIGKILL');
  await once(parent, 'exit');
  return pids;
}

test('a child that was stopped before its first line is killed with its parent, and so is every other', async (t) => {
  const pids = await orphans(t, 'kill');
  await until('the children are gone', () => pids.every((pid) => stateOf(pid) === null));
});

test('one that is to wake goes on, beside one that is killed', async (t) => {
  const [killed, woken] = await orphans(t, 'wake');
  await until('the second goes on', () => stateOf(woken!) === 'S');
  await until('the first is gone', () => stateOf(killed!) === null);
});

test('a child that its parent did not bind stays stopped', async (t) => {
  const [pid] = await orphans(t, 'none');
  assert.equal(stateOf(pid!), 'T');
});

test('a parent that ended before the call is noticed', async () => {
  // The parent is not the pid that it was told: pid 1 never forked this child.
  const child = spawn(process.execPath, [BOND_ENTRY, 'late', '1'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [text] = (await once(child.stdout, 'data')) as [Buffer];
  assert.equal(String(text).trim(), 'false false');
  const own = spawn(process.execPath, [BOND_ENTRY, 'late', String(process.pid)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [ownText] = (await once(own.stdout, 'data')) as [Buffer];
  assert.equal(String(ownText).trim(), 'true true');
});

test('a pid is a positive whole number and nothing else', () => {
  assert.equal(parentPidOf('4242'), 4_242);
  for (const text of [undefined, '', '0', '-1', '1.5', '1e3', 'abc', '12345678901']) {
    assert.equal(parentPidOf(text), null, String(text));
  }
});
