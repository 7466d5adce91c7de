import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { startCli } from '../../support/run-cli.ts';
import { until } from '../../support/waiting.ts';

describe('the built-in target from the command line', () => {
  it('says where it listens, tells its counts on SIGUSR2, and again at its end', async () => {
    const running = startCli(['serve', '--port', '0', '--workers', '1']);
    const out: string[] = [];
    running.child.stdout?.on('data', (text: string) => out.push(text));
    await until('it listens', () => /listening on 127\.0\.0\.1:\d+/.test(out.join('')));
    const port = /listening on 127\.0\.0\.1:(\d+)/.exec(out.join(''))?.[1];
    const run = startCli(['-t', `127.0.0.1:${port}`, '-c', '150', '-d', '1h']);
    await run.saw(/holding/);
    running.child.kill('SIGUSR2');
    await until('it tells its counts', () => /holds 150 now, 150 at most/.test(out.join('')));
    run.child.kill('SIGINT');
    assert.equal((await run.result).code, 130);
    running.child.kill('SIGINT');
    const result = await running.result;
    assert.equal(result.code, 0, result.stderr);
    assert.match(result.stdout, /holds 0 now, 150 at most/);
  });
});
