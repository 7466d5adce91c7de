/** Tests `help` as it is typed. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { CliSeries } from '../../support/cli-series.ts';

const series = new CliSeries();
after(() => series.close());

test('a word is a command, a topic, all, or the page in troff; no word is the first help', async () => {
  const begins: Readonly<Record<string, RegExp>> = {
    '': /^Usage: c100k-bench --target/,
    plan: /^Usage: c100k-bench plan /,
    run: /^Usage: c100k-bench --target[\s\S]*^Exit codes:$/m,
    'exit-codes': /^Exit codes\n/,
    reasons: /^Reasons\n[\s\S]*^ {2}source-exhausted$/m,
    metrics: /^Requirements\n[\s\S]*^ {2}held\n[\s\S]*^Metrics$/m,
    proof: /^Proof\n/,
    all: /^Usage: c100k-bench serve /m,
    man: /^\.TH C100K/m,
  };
  for (const [word, begin] of Object.entries(begins)) {
    const { stdout, stderr, code } = await series.run(word === '' ? ['help'] : ['help', word]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, begin);
  }
});

test('a word that is none is refused with the nearest, exit 2', async () => {
  const hintOf = async (...words: string[]): Promise<string> => {
    const { stdout, stderr, code } = await series.run(['help', ...words]);
    assert.deepEqual([stdout, code], ['', 2], stderr);
    return /hint: (.*)/.exec(stderr)?.[1] ?? '';
  };
  assert.equal(await hintOf('exit-code'), 'did you mean c100k-bench help exit-codes?');
  assert.equal(await hintOf('plam'), 'did you mean c100k-bench help plan?');
  assert.match(await hintOf('weather'), /^there is help on run, plan, .*exit-codes/);
  assert.notEqual(await hintOf('plan', 'serve'), '');
});
