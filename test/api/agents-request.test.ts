/** Tests which flags of a run describe this host alone, and which agents hear of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AgentsOptions, readAgents } from '../../src/api/agents-request.ts';
import { BenchError, ExitCode } from '../../src/base/errors.ts';
import { parseCommandLine } from '../../src/cli/command-line.ts';
import { formatToken, generateToken } from '../../src/control/token.ts';

async function agentsOf(line: string): Promise<AgentsOptions> {
  const words = `-t 10.0.0.9:8000 -c 100 ${line}`.split(' ').filter(Boolean);
  const parsed = await parseCommandLine(words, {}, '1.2.3', 80);
  assert(parsed.kind === 'command');
  return readAgents(parsed.values, formatToken(generateToken()));
}

const HOST_FLAGS = [
  '--source-ip 10.0.0.2',
  '--source-prefix 10.1.0.0/28',
  '--source-ip 10.0.0.2 --alias-dev eth0',
  '--source-ports 2000-2999',
  '--holders 3',
  '--engine epoll',
];

test('a flag that describes this host is refused where this host takes no part: it would say nothing', async () => {
  for (const flags of HOST_FLAGS) {
    await assert.rejects(agentsOf(`--expect-agents 2 ${flags}`), (error: unknown) => {
      assert(error instanceof BenchError && error.exitCode === ExitCode.usage);
      assert.match(
        error.message,
        /^--(source-ip|source-prefix|source-ports|holders|engine) describes this host/,
      );
      assert.match(error.hint, /c100k-bench agent --(source|holders|engine).*--agents local,remote/);
      return true;
    });
    await agentsOf(`--expect-agents 2 --agents local,remote ${flags}`);
    await agentsOf(flags);
  }
});

test('agents that ssh starts get ports and holders on their command line, never addresses', async () => {
  const ssh = '--ssh root@10.0.0.3';
  const { ssh: options } = await agentsOf(`${ssh} --holders 3 --source-ports 2000-2999,4000`);
  assert.deepEqual(options?.agentArguments, ['--holders', '3', '--source-ports', '2000-2999,4000']);
  assert.deepEqual((await agentsOf(ssh)).ssh?.agentArguments, []);
  for (const flags of HOST_FLAGS.slice(0, 3))
    await assert.rejects(agentsOf(`${ssh} ${flags}`), /describes this host/);
  const both = await agentsOf(
    `${ssh} --agents local,remote --source-prefix 10.1.0.0/28 --source-ip 10.0.0.2`,
  );
  assert.deepEqual(both.ssh?.agentArguments, []);
});
