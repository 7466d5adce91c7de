/**
 * What a coordinator and its agents keep does not grow while they hold, in the simulator: a thousand agents, each with a message a second.
 * `npm run simulate -- --agents 10000` takes some minutes.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { simulated } from '../simulate/simulated.ts';

test('the heap of a coordinator with 1,000 agents is flat within 5 % over 45 s of messages', async () => {
  const { code, output } = await simulated('--agents', '1000', '--hold', '60');
  assert.equal(code, 0, output.slice(-2_000));
  assert.match(output, /^1000 agents: [\d.]+ MB .* after 59 s \(-?[\d.]+ %\); pass$/m);
});
