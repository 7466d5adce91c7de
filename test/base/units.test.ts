/** Owns the proof that numbers read as people write them. Must never test a flag's default. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BenchError, ExitCode } from '../../src/base/errors.ts';
import {
  counted,
  DURATION_MS_MAX,
  formatBytes,
  formatCount,
  formatDuration,
  formatMs,
  formatRate,
  parseCount,
  parseDurationMs,
  parseRate,
} from '../../src/base/units.ts';

/** Runs what must fail with a usage error of this code, and returns the error. */
function refusal(code: string, run: () => unknown): BenchError {
  try {
    run();
  } catch (error) {
    assert(error instanceof BenchError, `not a BenchError: ${error}`);
    assert.equal(error.code, code);
    assert.equal(error.exitCode, ExitCode.usage);
    assert(!error.message.includes('\n') && error.hint !== '', 'one line and a hint');
    return error;
  }
  return assert.fail('it was accepted');
}

test('a count is read with its suffix and its underscores', () => {
  for (const [text, count] of [
    ['1', 1],
    ['130000', 130_000],
    ['130_000', 130_000],
    ['130k', 130_000],
    ['130K', 130_000],
    ['1m', 1_000_000],
    ['1M', 1_000_000],
    ['1.5k', 1_500],
    ['1.1m', 1_100_000],
    ['0.001k', 1],
    [' 7 ', 7],
  ] as const) {
    assert.equal(parseCount(text, '--conns'), count, text);
  }
});

test('what is no whole number is refused with the flag and a hint that can be typed', () => {
  for (const text of [
    '',
    '-5',
    '1.5',
    '130K!',
    '1.0005k',
    '130,000',
    'k',
    '1_',
    '_1',
    '1__0',
    '1e5',
    '0x10',
    '∞',
    '9m9',
  ]) {
    const error = refusal('bad-number', () => parseCount(text, '--conns'));
    assert.match(error.message, /^--conns /);
    assert(error.message.includes(`"${text}"`), error.message);
    const typed = /--conns (\S+)/.exec(error.hint)?.[1] ?? '';
    assert(parseCount(typed, '--conns') > 0, `the hint "${error.hint}" does not work`);
  }
});

test('the hint of a refused count is what was most likely meant', () => {
  assert.equal(refusal('bad-number', () => parseCount('130K!', '--conns')).hint, 'type --conns 130K');
  assert.equal(refusal('bad-number', () => parseCount('130,000', '--conns')).hint, 'type --conns 130_000');
  assert.equal(refusal('bad-number', () => parseCount('-5', '--conns')).hint, 'type --conns 5');
  assert.equal(refusal('bad-number', () => parseCount('1e5', '--conns')).hint, 'type --conns 100000');
  assert.equal(refusal('bad-number', () => parseCount('1.3E+5', '--conns')).hint, 'type --conns 130000');
  assert.equal(
    refusal('bad-number', () => parseCount('1e5', 'C100K_CONNS')).hint,
    'type C100K_CONNS=100000',
    'a variable is typed with =',
  );
  // Digits that are left when letters are taken away are another number.
  for (const text of ['0x10', '1e400', '9m9', '5 of 7x', '1.2.3', '12e-3', '4 5']) {
    const { hint } = refusal('bad-number', () => parseCount(text, '--conns'));
    if (text !== '5 of 7x') assert.match(hint, /^type a whole number, such as --conns 130k/, text);
  }
});

test('a count keeps to its bounds, and 0 is refused unless the bounds allow it', () => {
  assert.match(refusal('bad-number', () => parseCount('0', '--conns')).message, /at least 1/);
  assert.equal(parseCount('0', '--holders', { min: 0 }), 0);
  const above = refusal('bad-number', () => parseCount('65', '--holders', { max: 64 }));
  assert.match(above.message, /at most 64/);
  assert.equal(above.hint, 'type a whole number, such as --holders 64');
  refusal('bad-number', () => parseCount('99999999999999999999', '--conns'));
});

test('a rate is read per second, minute or hour', () => {
  for (const [text, perSec] of [
    ['5000', 5_000],
    ['5k/s', 5_000],
    ['5K', 5_000],
    ['300/m', 5],
    ['90/h', 0.025],
    ['0.5/s', 0.5],
    ['1m/m', 1_000_000 / 60],
    ['1_000/s', 1_000],
  ] as const) {
    assert.equal(parseRate(text, '--rate'), perSec, text);
  }
});

test('what is no rate, no rate at all or too high a rate is refused', () => {
  for (const text of ['', '0', '0/s', '-1', '5k/', '5/d', '5/sec', 'fast', '1e9', '2_000m']) {
    const error = refusal('bad-rate', () => parseRate(text, '--rate'));
    assert.match(error.message, /^--rate /);
    assert.match(error.hint, /--rate/);
  }
});

test('a duration is read with its units; a plain number is seconds and m is minutes', () => {
  for (const [text, ms] of [
    ['90', 90_000],
    ['90s', 90_000],
    ['1h30m', 5_400_000],
    ['500ms', 500],
    ['2d', 172_800_000],
    ['5m', 300_000],
    ['1.5s', 1_500],
    ['0.5', 500],
    ['1m500ms', 60_500],
    ['0', 0],
    ['1d2h3m4s5ms', 93_784_005],
  ] as const) {
    assert.equal(parseDurationMs(text, '--duration'), ms, text);
  }
});

test('what is no duration, or outside its bounds, is refused', () => {
  for (const text of ['', '-1s', '1m1h', '1s1s', '5 m', 's', '1w', '0.5ms', '400d', 'forever']) {
    const error = refusal('bad-duration', () => parseDurationMs(text, '--duration'));
    assert.match(error.message, /^--duration /);
    const typed = /--duration (\S+?)[, ]?(?: |$)/.exec(error.hint)?.[1] ?? '';
    assert(parseDurationMs(typed, '--duration') > 0, `the hint "${error.hint}" does not work`);
  }
  assert.match(
    refusal('bad-duration', () => parseDurationMs('0', '--probe-every', { minMs: 100 })).message,
    /at least 100ms/,
  );
});

test('a count that was written is read back, once its commas are underscores', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (count) => {
      const text = formatCount(count);
      assert.match(text, /^\d{1,3}(,\d{3})*$/);
      assert.equal(parseCount(text.replaceAll(',', '_'), '--conns', { min: 0 }), count);
    }),
  );
});

test('a duration that was written is read back to the millisecond', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.integer({ min: 0, max: DURATION_MS_MAX }), fc.integer({ min: 0, max: 200_000 })),
      (ms) => assert.equal(parseDurationMs(formatDuration(ms), '--duration'), ms),
    ),
  );
});

test('a rate that was written is read back', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.integer({ min: 1, max: 1_000_000_000 }),
        fc.integer({ min: 1, max: 9_999 }).map((n) => n / 100),
      ),
      (rate) => assert.equal(parseRate(formatRate(rate).replaceAll(',', '_'), '--rate'), rate),
    ),
  );
});

test('numbers are written for people', () => {
  assert.equal(formatCount(130_000), '130,000');
  assert.equal(formatCount(-1_234.4), '-1,234');
  assert.equal(formatCount(0), '0');
  assert.equal(formatDuration(0), '0s');
  assert.equal(formatDuration(499.6), '500ms');
  assert.equal(formatDuration(60_000), '60s');
  assert.equal(formatDuration(150_000), '2m30s');
  assert.equal(formatDuration(5_400_000), '1h30m');
  assert.equal(formatRate(5_000), '5,000/s');
  assert.equal(formatRate(0.5), '0.5/s');
  assert.equal(formatRate(null), 'no limit');
  assert.equal(formatBytes(512), '512 B');
  assert.equal(formatBytes(54_525_952), '52 MiB');
  assert.equal(formatBytes(1_048_575), '1 MiB');
  assert.equal(formatBytes(1.5 * 2 ** 30), '1.5 GiB');
  assert.equal(formatMs(0.042), '0.042 ms');
  assert.equal(formatMs(12.34), '12.3 ms');
  assert.equal(formatMs(1_204), '1,204 ms');
  assert.equal(formatMs(null), '-');
});

test('what is counted is named as one or as many', () => {
  assert.equal(counted(1, 'port'), '1 port');
  assert.equal(counted(0, 'port'), '0 ports');
  assert.equal(counted(1_234, 'source address', 'source addresses'), '1,234 source addresses');
});
