import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressRange } from '../../src/base/address.ts';
import type { CommandResult, RunCommand } from '../../src/host/command.ts';
import { hostAlias } from '../../src/run/alias.ts';
import { findDuplicates } from '../../src/sources/duplicate-check.ts';

const QUIET: CommandResult = { code: 0, stdout: '', stderr: '', missing: false, truncated: false };
/** What arping of iputils prints. */
const REPLY = 'Unicast reply from 10.9.0.101 [0E:1F:00:AA:BB:CC] 0.6ms\nReceived 1 response(s)\n';

function segment(answers: Readonly<Record<string, Partial<CommandResult>>>) {
  const asked: string[] = [];
  const run: RunCommand = (file, args) => {
    asked.push([file, ...args].join(' '));
    return Promise.resolve({ ...QUIET, ...answers[args.at(-1) ?? ''] });
  };
  return { asked, run };
}

test('an address that another host answers for is named with its hardware address; a silent one is free', async () => {
  const { asked, run } = segment({ '10.9.0.101': { code: 1, stdout: REPLY } });
  const aliases = ['10.9.0.101', '10.9.0.102'].map((address) => hostAlias(address, 'eth0'));
  assert.deepEqual(await findDuplicates(run, aliases), [
    { address: '10.9.0.101', owner: '0e:1f:00:aa:bb:cc' },
  ]);
  assert.deepEqual(asked, [
    'arping -D -I eth0 -c 1 -w 1 10.9.0.101',
    'arping -D -I eth0 -c 1 -w 1 10.9.0.102',
  ]);
});

test('an arping that is missing, or that may not listen, accuses nobody', async () => {
  const alias = [hostAlias('10.9.0.101', 'eth0')];
  const missing = segment({ '10.9.0.101': { code: null, missing: true } });
  assert.deepEqual(await findDuplicates(missing.run, alias), []);
  const forbidden = segment({ '10.9.0.101': { code: 2, stderr: 'arping: socket: Operation not permitted' } });
  assert.deepEqual(await findDuplicates(forbidden.run, alias), []);
});

test('only IPv4 addresses on devices with neighbours are asked for, and at most 128', async () => {
  const { asked, run } = segment({});
  const others = [hostAlias('fd09::5', 'eth0'), hostAlias('10.1.0.0', 'lo')];
  const many = addressRange('10.9.0.10', 200).map((address) => hostAlias(address, 'eth0'));
  await findDuplicates(run, [...others, ...many]);
  assert.equal(asked.length, 128);
  assert(asked.every((line) => / eth0 .* 10\.9\.0\.\d+$/.test(line)));
});
