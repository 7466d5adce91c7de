/**
 * Owns that what belongs to one host stays there: the sources, ports and holders that were typed for a run are those of
 * the agent that it forks, and no other agent hears of them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { says, startAgent, startCoordinator } from '../support/agents.ts';
import { until } from '../support/bench-run.ts';
import { socketsOnPort } from '../support/kernel-view.ts';
import { startNetTarget } from '../support/net-target.ts';

test('--source-prefix, --source-ports and --holders are for this host: two agents never use the same sources', async (t) => {
  const target = await startNetTarget(t);
  const run = startCoordinator(t, [
    ...['--target', `127.0.0.1:${target.port}`, '--conns', '60', '--duration', '3s'],
    ...['--expect-agents', '1', '--agents', 'local,remote'],
    ...['--source-prefix', '127.99.1.0/28', '--source-ports', '21000-21009', '--holders', '2'],
  ]);
  startAgent(t, `127.0.0.1:${await run.port()}`, 'ada', run.tokenText, ['--source-ports', '22000-22009']);
  await says(run, / holding /);
  // The clients' ends, as the kernel shows them.
  let peers: RegExpMatchArray[] = [];
  await until('all are open', 60_000, () => {
    const lines = socketsOnPort(target.port).filter((line) => !line.includes('LISTEN'));
    peers = lines.flatMap((line) => [...line.matchAll(/(127\.\d+\.\d+\.\d+):(2[12]0\d\d)/g)]);
    return new Set(peers.map(([name]) => name)).size === 60;
  });
  for (const [name, address = '', port = ''] of peers) {
    const isOfThisHost = address.startsWith('127.99.1.');
    assert.equal(port.startsWith('210'), isOfThisHost, name);
  }
  const { code, stdout } = await run.result;
  assert.equal(code, 0, stdout);
  const holders = Object.fromEntries(run.report().agents.map((agent) => [agent.name, agent.holders.length]));
  assert.deepEqual(holders, { local: 2, ada: 1 });
});
