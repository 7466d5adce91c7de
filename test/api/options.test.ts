/** Owns the comparison of the library's options with the table of flags and with docs/API.md, and what wrong ones are told. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { FLAGS } from '../../src/api/flags/flags.ts';
import { optionError, optionValues } from '../../src/api/options.ts';
import { readRunRequest } from '../../src/api/run-request.ts';
import { BenchError } from '../../src/base/errors.ts';
import { repositoryRoot } from '../support/run-cli.ts';

/** What `read` was told, as a caller of the library sees it. */
function refusalOf(options: unknown, command: 'run' | 'plan' = 'run'): BenchError {
  try {
    const values = optionValues(command, options);
    try {
      readRunRequest(values);
    } catch (error) {
      throw optionError(command, error);
    }
  } catch (told) {
    assert.ok(told instanceof BenchError, String(told));
    assert.equal(told.exitCode, 2);
    assert.doesNotMatch(`${told.message}${told.hint}`, /[\n\r]|\bundefined\b/);
    return told;
  }
  assert.fail(`accepted: ${String(options)}`);
}

const GOOD = { target: '127.0.0.1:9', conns: 5 };

/** Option and flag of each row of docs/API.md, by the section it stands in. */
function documented(): Map<string, { option: string; type: string; flag: string }[]> {
  const text = readFileSync(join(repositoryRoot, 'docs', 'API.md'), 'utf8');
  return new Map(
    text
      .split(/^## /m)
      .map((section) => [
        section.split('\n')[0] ?? '',
        [...section.matchAll(/^\| `(\w+)` \| `(.*?)` \| .* \| `--([a-z-]+)` \|$/gm)].map(
          ([, option = '', type = '', flag = '']) => ({ option, type: type.replaceAll('\\|', '|'), flag }),
        ),
      ]),
  );
}

describe('the options of the library', () => {
  const sections = documented();
  const rowsOf = (...titles: string[]) => titles.flatMap((title) => sections.get(title) ?? []);
  const COMMANDS = {
    run: rowsOf('Options of both', 'Options of run alone'),
    plan: rowsOf('Options of both', 'Options of plan alone'),
  };

  for (const command of ['run', 'plan'] as const) {
    it(`of ${command} are the flags of the table but those of the output, each once in docs/API.md`, () => {
      const flags = FLAGS.filter((flag) => flag.commands.includes(command) && flag.group !== 'Output:');
      assert.deepEqual(
        COMMANDS[command].map(({ flag }) => flag).toSorted(),
        flags.map(({ name }) => name).toSorted(),
      );
    });

    it(`of ${command} are taken under the name and with the type of docs/API.md, and reach their flag`, () => {
      for (const { option, type, flag: name } of COMMANDS[command]) {
        const flag = FLAGS.find((one) => one.name === name);
        assert.ok(flag !== undefined);
        const bounds = flag.bounds;
        const number =
          bounds?.kind === 'count' ? bounds.max : bounds?.kind === 'duration' ? bounds.minMs : 0.5;
        const text = flag.choices?.[0] ?? 'some text';
        const [value, wanted, typed] =
          bounds !== undefined
            ? [number, flag.write(number), 'number']
            : flag.kind === 'switch'
              ? [true, 'true', 'boolean']
              : [text, text, flag.choices?.map((word) => `"${word}"`).join(' | ') ?? 'string'];
        const values = optionValues(command, { [option]: value });
        assert.ok(values.isGiven(name), option);
        const read = flag.kind === 'switch' ? String(values.on(name)) : (values.one(name) ?? '');
        assert.equal(read, wanted, option);
        assert.equal(type, flag.kind === 'list' ? 'string | readonly string[]' : typed, option);
        if (flag.kind !== 'list') continue;
        assert.deepEqual(optionValues(command, { [option]: ['a', 'b'] }).list(name), ['a', 'b']);
      }
    });

    it(`of ${command} refuse every other type with the option, and an example or where to read on`, () => {
      for (const { option, flag: name } of COMMANDS[command]) {
        const flag = FLAGS.find((one) => one.name === name);
        const isList = flag?.kind === 'list';
        const isNumber = flag?.bounds !== undefined;
        const wrong: unknown[] = [null, {}, Number.NaN, 1n, Symbol('x'), () => {}, new Date(0), [5], [null]];
        if (!isList) wrong.push(['a']);
        if (isNumber) wrong.push('1', '1e5', '', Number.POSITIVE_INFINITY, -1, '10s', true);
        else wrong.push(0, 5);
        if (flag?.kind === 'switch') wrong.push('true', 1);
        for (const value of wrong) {
          const error = refusalOf({ ...GOOD, [option]: value }, command);
          assert.ok(error.message.startsWith(`${option} is `), `${option}: ${error.message}`);
          assert.ok(error.hint.includes(option), error.hint);
        }
      }
    });
  }

  it('are an object, and have no other names', () => {
    for (const options of [null, 5, 'self', [], [GOOD], () => {}]) {
      assert.match(refusalOf(options).message, /are an object, not /);
    }
    assert.match(refusalOf({ ...GOOD, rate: 5 }).hint, /did you mean ratePerSec\?/);
    assert.match(refusalOf({ ...GOOD, json: 'x' }).message, /no option json/);
    assert.match(refusalOf({ ...GOOD, '--conns': 5 }).message, /no option --conns/);
    assert.match(refusalOf({ ...GOOD, via: 'dnat' }).message, /run has no option via/);
  });

  it('that are undefined are not given', () => {
    const { spec } = readRunRequest(optionValues('run', { ...GOOD, ratePerSec: undefined }));
    assert.equal(spec.ratePerSec, null);
  });

  it('take numbers in units, as small and as large as the flag', () => {
    const options = { ...GOOD, ratePerSec: 1e-6, durationMs: 1_500, connectTimeoutMs: 61_001 };
    const { spec } = readRunRequest(optionValues('run', options));
    assert.deepEqual([spec.ratePerSec, spec.holdMs, spec.connectTimeoutMs], [1e-6, 1_500, 61_001]);
  });

  it('are given in words of options: what a hint says can be typed', () => {
    const cases: readonly [options: object, message: RegExp, hint: RegExp][] = [
      [{ ratePerSec: 1e-9 }, /^ratePerSec: 1e-9 takes /, /^type ratePerSec: 0\.00\d+ or more$/],
      [{ sourcePorts: '9-1' }, /ends before it starts/, /^type sourcePorts: "1-9"$/],
      [{ probeEveryMs: 1_000 }, /^probeEveryMs needs a target that answers/, /^use target echo:/],
      [{ close: 'slam' }, /^close: "slam" is not known/, /^use close: "fin" or close: "rst"$/],
      [{ target: [] }, /target is missing/, /target: "host:8000"/],
      [{ conns: 1.5 }, /not 1\.5$/, /^for example: conns: 2$/],
      [{ conns: '1e5' }, /not "1e5"$/, /^for example: conns: 100000$/],
    ];
    for (const [options, message, hint] of cases) {
      const error = refusalOf({ ...GOOD, ...options });
      assert.match(error.message, message);
      assert.match(error.hint, hint);
      assert.doesNotMatch(error.message + error.hint, /--/);
    }
  });
});
