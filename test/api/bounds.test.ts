import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Bounds, FLAG_BOUNDS, type NumberFlag, readNumber } from '../../src/api/bounds.ts';
import type { FlagValues } from '../../src/api/flags/flag-values.ts';
import { FLAGS } from '../../src/api/flags/flags.ts';
import { readRunRequest } from '../../src/api/run-request.ts';
import { BenchError } from '../../src/base/errors.ts';
import { RATE_PER_SEC_MAX } from '../../src/base/units.ts';
import { parseCommandLine } from '../../src/cli/command-line.ts';

/** Flags with a value that is no number, and why nothing here can be too large. */
const NO_NUMBER: ReadonlySet<string> = new Set([
  ...['target', 'close', 'source-ip', 'source-ports', 'source-prefix', 'alias-dev', 'probe', 'require'],
  ...['on-drop', 'target-stats', 'expect-banner', 'ws-message', 'host-header', 'tls-servername', 'tls-ca'],
  ...['agents', 'listen', 'on-agent-loss', 'ssh', 'ssh-command', 'ssh-option', 'advertise'],
  ...[
    'stats-listen',
    'host',
    'mode',
    'join',
    'token-file',
    'name',
    'allow-target',
    'allow-source',
    'allow-alias-dev',
    'partial-report',
  ],
  ...['image', 'namespace', 'run-name', 'spread', 'cpu', 'memory', 'via', 'via-ports', 'via-source'],
  ...['via-server', 'events', 'junit', 'prometheus', 'json'],
]);

const LIMITS = Object.entries(FLAG_BOUNDS) as [NumberFlag, Bounds][];

/** What people and scripts type where a number belongs. */
const EXTREMES = [
  ...['0', '-1', '-0', '1e-9', '1e308', '1e400', 'NaN', 'Infinity', '-Infinity', '', ' ', '0x10', '٣', '½'],
  ...[
    '9007199254740992',
    '9007199254740993',
    '18446744073709551616',
    '9'.repeat(400),
    `0.${'0'.repeat(400)}1`,
  ],
  ...['1.7976931348623157e308', '2147483648', '4294967296ms', '999999999999d', '0.0000001ms', '1/0', '0/h'],
  ...['1;reboot', '1\n2', '\u001b[2J1', '1k1m', 'k', 'm', '/s', '1/d', '--1', '+-1'],
];

function single(name: string, text: string): FlagValues {
  const values = new Map([[name, text]]);
  return {
    one: (asked) => values.get(asked) ?? null,
    list: () => [],
    on: () => false,
    origin: (asked) => `--${asked}`,
    isGiven: (asked) => values.has(asked),
  };
}

/** One line and a hint, whatever was typed. */
function assertTold(error: unknown, name: string, text: string): void {
  assert.ok(error instanceof BenchError, `--${name} ${JSON.stringify(text)}: ${String(error)}`);
  assert.equal(error.exitCode, 2);
  assert.match(
    `${error.message}${error.hint}`,
    /^[^\p{Cc}]+$/u,
    'one line, and nothing that a terminal obeys',
  );
  assert.ok(['bad-number', 'bad-duration', 'bad-rate'].includes(error.code), error.code);
  assert.ok(error.hint.includes(name) || error.hint.includes('leave'), error.hint);
}

describe('every flag with a number', () => {
  it('is in the list of ranges, or named as one without', () => {
    const valued = FLAGS.filter((flag) => flag.kind !== 'switch').map((flag) => flag.name);
    const listed = [...Object.keys(FLAG_BOUNDS), ...NO_NUMBER];
    assert.deepEqual(valued.toSorted(), listed.toSorted());
  });

  it('gives a number in its range for whatever is typed, or one clear refusal', () => {
    let refused = 0;
    for (const [name, bounds] of LIMITS) {
      for (const text of EXTREMES) {
        let value: number | null;
        try {
          value = readNumber(single(name, text), name);
        } catch (error) {
          assertTold(error, name, text);
          refused += 1;
          continue;
        }
        assert.ok(value !== null && Number.isFinite(value), `--${name} ${text}`);
        if (bounds.kind === 'rate') assert.ok(value > 0 && value <= RATE_PER_SEC_MAX, `--${name} ${text}`);
        else {
          const [low, high] =
            bounds.kind === 'count' ? [bounds.min, bounds.max] : [bounds.minMs, bounds.maxMs];
          assert.ok(
            Number.isSafeInteger(value) && value >= low && value <= high,
            `--${name} ${text} is ${value}`,
          );
        }
      }
    }
    assert.ok(refused > LIMITS.length * 20, `${refused} of ${LIMITS.length * EXTREMES.length} are refused`);
  });

  it('takes both ends of its range and nothing beyond', () => {
    for (const [name, bounds] of LIMITS) {
      if (bounds.kind === 'rate') continue;
      const unit = bounds.kind === 'count' ? '' : 'ms';
      const [low, high] = bounds.kind === 'count' ? [bounds.min, bounds.max] : [bounds.minMs, bounds.maxMs];
      for (const end of [low, high]) assert.equal(readNumber(single(name, `${end}${unit}`), name), end, name);
      for (const end of [low - 1, high + 1]) {
        assert.throws(
          () => readNumber(single(name, `${end}${unit}`), name),
          BenchError,
          `--${name} ${end}${unit}`,
        );
      }
    }
  });

  it('is read through these ranges by a run: what is out of them is refused', async () => {
    const tried: readonly [string, NumberFlag, string][] = [
      ['127.0.0.1:9', 'conns', '100000001'],
      ['127.0.0.1:9', 'connect-timeout', '365d'],
      ['127.0.0.1:9', 'max-pending', '0'],
      ['127.0.0.1:9', 'duration', '366d'],
      ['127.0.0.1:9', 'holders', '257'],
      ['127.0.0.1:9', 'alias-lease', '2h'],
      ['echo://127.0.0.1:9', 'probe-every', '8d'],
      ['echo://127.0.0.1:9', 'probe-timeout', '2h'],
      ['http://127.0.0.1:9', 'http-status', '99'],
    ];
    for (const [target, name, text] of tried) {
      const conns = name === 'conns' ? [] : ['-c', '5'];
      const parsed = await parseCommandLine(['-t', target, ...conns, `--${name}`, text], {}, '0', 80);
      assert.ok(parsed.kind === 'command');
      assert.throws(
        () => readRunRequest(parsed.values),
        (error) => {
          assertTold(error, name, text);
          return true;
        },
      );
    }
  });
});

describe('--rate', () => {
  const ask = async (conns: string, rate: string): Promise<number | null> => {
    const parsed = await parseCommandLine(['-t', '127.0.0.1:9', '-c', conns, '-r', rate], {}, '0', 80);
    assert.ok(parsed.kind === 'command');
    return readRunRequest(parsed.values).spec.ratePerSec;
  };

  it('whose ramp would take more than a year is refused with the arithmetic and a rate that will do', async () => {
    await assert.rejects(ask('1000', '0.000000001'), (error) => {
      assert.ok(error instanceof BenchError && error.exitCode === 2);
      assert.match(error.message, /takes 11,574,074 days for 1,000 connections, more than 365d/);
      assert.equal(error.hint, 'type --rate 1/h or more');
      return true;
    });
    assert.ok((await ask('1000', '1/h')) !== null, 'what the hint says works');
    assert.equal(await ask('8760', '1/h'), 1 / 3_600, 'exactly a year');
    await assert.rejects(ask('8761', '1/h'), BenchError);
  });
});
