import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseBatchErrors, runIpBatch } from '../../src/sources/ip-batch.ts';

test('each error belongs to the command whose number follows it', () => {
  const said =
    'Error: ipv4: Address already assigned.\nCommand failed -:1\nCannot find device "nodev"\nCommand failed -:2\n' +
    'RTNETLINK answers: Operation not permitted\nCommand failed -:12\n';
  assert.deepEqual(
    [...parseBatchErrors(said)],
    [
      [0, 'ipv4: Address already assigned.'],
      [1, 'Cannot find device "nodev"'],
      [11, 'Operation not permitted'],
    ],
  );
  assert.equal(parseBatchErrors('').size, 0);
});

test('when ip ends on its way, every command counts as failed; no command runs no program', async () => {
  const killed = { code: null, stdout: '', stderr: '', missing: false, truncated: false };
  const { errors } = await runIpBatch(() => Promise.resolve(killed), ['addr add 1', 'addr add 2']);
  assert.deepEqual([...errors.keys()], [0, 1]);
  const nothing = await runIpBatch(() => assert.fail('nothing to run'), []);
  assert.equal(nothing.errors.size, 0);
});
