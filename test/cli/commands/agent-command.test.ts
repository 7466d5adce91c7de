/** Tests the command line of an agent: what it lacks is said in one line, and its token never. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatToken, generateToken } from '../../../src/control/token.ts';
import { type CliOptions, runCli } from '../../support/run-cli.ts';

interface BadInput {
  readonly what: string;
  readonly args: readonly string[];
  readonly code: number;
  /** what the line, or its hint, says */
  readonly says: RegExp;
  readonly options?: CliOptions;
}

const C100K_TOKEN = formatToken(generateToken());

describe('c100k-bench agent', () => {
  const cases: readonly BadInput[] = [
    { what: 'no coordinator', args: ['agent'], code: 2, says: /--join is missing/ },
    { what: 'no token', args: ['agent', '--join', '127.0.0.1:9'], code: 2, says: /token/ },
    {
      what: 'a token that is none',
      args: ['agent', '--join', '127.0.0.1:9'],
      code: 2,
      says: /not one that c100k-bench made/,
      options: { env: { C100K_TOKEN: 'letmein' } },
    },
    {
      what: 'an ssh client outside of a session of ssh',
      args: ['agent', '--join', 'ssh-client:9'],
      code: 2,
      says: /works only in an ssh session/,
      options: { env: { C100K_TOKEN, SSH_CONNECTION: '' } },
    },
    {
      what: 'no coordinator where it was said to be',
      args: ['agent', '--join', '127.0.0.1:1', '--wait-coordinator', '1s'],
      code: 4,
      says: /cannot join the coordinator at 127\.0\.0\.1:1: .*ECONNREFUSED/,
      options: { env: { C100K_TOKEN } },
    },
    {
      what: 'the address that an ssh session comes from',
      args: ['agent', '--join', 'ssh-client:1', '--wait-coordinator', '1s'],
      code: 4,
      says: /cannot join the coordinator at 127\.0\.0\.7:1: /,
      options: { env: { C100K_TOKEN, SSH_CONNECTION: '127.0.0.7 50000 127.0.0.1 22' } },
    },
    {
      what: 'a source of its own that it does not allow',
      args: ['agent', '--join', '127.0.0.1:1', '--source-ip', '127.0.0.9', '--allow-source', '127.0.0.8'],
      code: 2,
      says: /127\.0\.0\.9 is not in --allow-source/,
      options: { env: { C100K_TOKEN } },
    },
  ];
  for (const { what, args, code, says, options } of cases) {
    it(`${what}: exit ${code}, one line and a hint`, async () => {
      const result = await runCli(args, options);
      assert.match(result.stderr, says);
      assert.match(result.stderr, /^(?:agent .*\n)*c100k-bench: .*\n {2}hint: .*\n$/);
      assert.equal(result.code, code);
      assert.equal(result.stdout, '');
    });
  }

  it('a token is never repeated', async () => {
    const result = await runCli(['agent', '--join', '127.0.0.1:9'], {
      env: { C100K_TOKEN: 'hunter2hunter2' },
    });
    assert.ok(!result.stderr.includes('hunter2'));
  });
});
