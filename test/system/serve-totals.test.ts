/**
 * Owns that what `serve` says at its end agrees with the report of the run against it, whichever engine it uses, and that it
 * takes epoll with the reason in words where io_uring is refused.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { URING_SKIP } from '../engine/drivers/driver-harness.ts';
import { startBench } from '../support/bench-run.ts';
import { repositoryRoot, runCli, startCli } from '../support/run-cli.ts';
import { ENGINES } from '../support/test-engine.ts';
import { HANG_MS, until } from '../support/waiting.ts';

const CONNECTIONS = 3_000;
/** of one echo probe */
const PROBE_BYTES = 16;

/** `serve` in mode echo with its counts on a free port. */
async function startServe(t: TestContext, args: readonly string[]) {
  const all = ['serve', '--port', '0', '--mode', 'echo', '--stats-listen', '127.0.0.1:0', ...args];
  const cli = startCli(all, { timeoutMs: 2 * HANG_MS });
  t.after(() => {
    cli.child.kill('SIGTERM');
    return cli.result;
  });
  let said = '';
  cli.child.stdout?.on('data', (text: string) => {
    said += text;
  });
  // The line of its address goes out before that of its engine, but through another pipe.
  await cli.saw(/^engine \w+: .*$/m);
  await until('serve says where it listens', () => said.includes('\n'));
  const port = Number(/^listening on 127\.0\.0\.1:(\d+)/m.exec(said)?.[1]);
  const statsUrl = /counts at (http:\/\/\S+)/.exec(cli.stderr())?.[1] ?? '';
  return { cli, port, statsUrl };
}

/** All numbers of the line that begins with this word. */
function numbersOf(text: string, word: string): number[] {
  const line = new RegExp(`^${word} .*$`, 'm').exec(text)?.[0] ?? assert.fail(`no line ${word} in ${text}`);
  return [...line.matchAll(/[\d,]+\d|\d/g)].map(([number]) => Number(number.replaceAll(',', '')));
}

for (const engine of ENGINES) {
  const skip = engine === 'uring' && URING_SKIP;
  test(`serve --engine ${engine}: its totals are those of the report`, { skip }, async (t) => {
    const { cli, port, statsUrl } = await startServe(t, ['--engine', engine, '--workers', '2']);
    const args = ['--target', `echo://127.0.0.1:${port}`, '--conns', `${CONNECTIONS}`, '--duration', '3s'];
    const run = startBench(t, [...args, '--probe-every', '1s', '--target-stats', statsUrl], {});
    const { code, stderr } = await run.result;
    assert.equal(code, 0, stderr);
    const { connections, target, probes, agents } = run.report();
    cli.child.kill('SIGTERM');
    const { code: serveCode, stdout } = await cli.result;
    assert.equal(serveCode, 0);
    assert.match(cli.stderr(), new RegExp(`^engine ${engine}: as --engine says$`, 'm'));
    const [accepted, peak] = [numbersOf(stdout, 'accepted')[0], numbersOf(stdout, 'peak held')[0]];
    assert(target !== null && accepted !== undefined);
    // What the run opened to try its sources before the ramp was accepted too: at most one for each.
    const tried = accepted - connections.established;
    assert(tried >= 0 && tried <= (agents[0]?.sources?.length ?? 1), `${tried} besides`);
    assert.equal(accepted, target.acceptedTotal);
    assert.equal(peak, connections.established);
    assert.equal(peak, target.openMax);
    const [byFin = 0, byReset = 0, bySelf] = numbersOf(stdout, 'closed');
    assert.equal(byFin + byReset, accepted, 'the run closed all that it opened');
    assert(byReset >= connections.established, 'it closes with RST');
    assert.equal(bySelf, 0);
    const [received = 0, sent = 0] = numbersOf(stdout, 'bytes');
    // The final check asks beyond the probes of the report. A connection that was reset with its last one on the way got no answer.
    assert(probes.answered >= 2 * CONNECTIONS);
    assert(sent >= PROBE_BYTES * probes.answered, `${sent} bytes for ${probes.answered} answers`);
    const unanswered = received - sent;
    assert(unanswered >= 0 && unanswered <= PROBE_BYTES * CONNECTIONS, `${received} received, ${sent} sent`);
  });
}

test('serve takes epoll where seccomp refuses io_uring, and says why; --engine uring is refused with exit 3', {
  skip: URING_SKIP,
}, async (t) => {
  const entry = join(repositoryRoot, 'build', 'test', 'engine', 'drivers', 'refusal-entry.js');
  const wrap = `shift 2; exec '${process.execPath}' '${entry}' eperm-setup -- "$@"`;
  const cli = startCli(['serve', '--port', '0', '--workers', '1', '--engine', 'auto'], { wrap });
  t.after(() => {
    cli.child.kill('SIGTERM');
    return cli.result;
  });
  await cli.saw(/^engine .*$/m);
  assert.match(cli.stderr(), /^engine epoll: io_uring: not permitted \(seccomp/m);
  const refused = await runCli(['serve', '--port', '0', '--engine', 'uring'], { wrap });
  assert.equal(refused.code, 3, refused.stderr);
  assert.match(refused.stderr, /--engine uring cannot be: io_uring: not permitted \(seccomp/);
  assert.match(refused.stderr, /hint: use --engine auto/);
});
