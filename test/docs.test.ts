import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { environmentName, FLAGS } from '../src/api/flags/flags.ts';
import { ErrorCode, ExitCode } from '../src/base/errors.ts';
import { DropReason, FailReason, SkipReason } from '../src/base/outcome.ts';
import { COMMANDS } from '../src/cli/commands.ts';
import { runFileSchemaJson } from '../src/cli/run-file-schema.ts';
import { agentMessageSchema } from '../src/control/agent-message.ts';
import { coordinatorMessageSchema } from '../src/control/coordinator-message.ts';
import { PROTOCOL_VERSION } from '../src/control/message.ts';
import { sampleReport } from './report/sample-report.ts';
import { CliSeries } from './support/cli-series.ts';
import { reportSchema } from './support/report-schema.ts';
import { repositoryRoot } from './support/run-cli.ts';

const manual = readFileSync(join(repositoryRoot, 'docs', 'MANUAL.md'), 'utf8');

/** The manual's text below a heading, up to the next heading of the same or a higher level. */
function section(heading: string): string {
  const lines = manual.split('\n');
  const start = lines.findIndex((line) => /^#+ /.test(line) && line.replace(/^#+ /, '') === heading);
  assert.ok(start >= 0, `no heading ${heading}`);
  const level = lines[start]?.indexOf(' ') ?? 0;
  const rest = lines.slice(start + 1);
  const end = rest.findIndex((line) => /^#+ /.test(line) && line.indexOf(' ') <= level);
  return rest.slice(0, end < 0 ? undefined : end).join('\n');
}

/** The words in the first column of the tables of a section, without backticks. */
function firstColumn(heading: string): string[] {
  return section(heading)
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) => line.split('|')[1]?.trim().replaceAll('`', '') ?? '')
    .filter((cell) => !/^-+$/.test(cell));
}

describe('the manual', () => {
  /** The rows of the tables of flags: what they say in their first two columns. */
  function flagRows(): { readonly names: string; readonly fallback: string }[] {
    const lines = manual.split('\n');
    return lines.flatMap((line, index) => {
      if (line !== '| flag | default | meaning |') return [];
      const rest = lines.slice(index + 2);
      return rest
        .slice(
          0,
          rest.findIndex((one) => !one.startsWith('|')),
        )
        .map((row) => {
          // A bar behind a backslash is text.
          const [, names = '', fallback = ''] = row.split(/(?<!\\)\|/).map((cell) => cell.trim());
          return { names: names.replaceAll('\\|', '|'), fallback: fallback.replaceAll('`', '') };
        });
    });
  }

  it('has exactly the flags of the table, each with its placeholder, its letter and its default', () => {
    const wanted = FLAGS.map((flag) => ({
      names:
        (flag.kind === 'switch' ? `\`--${flag.name}\`` : `\`--${flag.name} ${flag.placeholder}\``) +
        (flag.letter === null ? '' : `, \`-${flag.letter}\``),
      fallback: flag.required
        ? 'required'
        : (flag.default ?? flag.defaultNote ?? (flag.kind === 'switch' ? 'off' : 'none')),
    }));
    const byName = (some: { readonly names: string }, other: { readonly names: string }): number =>
      some.names.localeCompare(other.names);
    assert.deepEqual(flagRows().toSorted(byName), wanted.toSorted(byName));
  });

  it('has exactly the environment variables of the flags, and the token', () => {
    const variables = firstColumn('Environment').filter((cell) => cell.startsWith('C100K_'));
    const own = FLAGS.map(environmentName);
    const others = variables.filter((name) => !own.includes(name));
    assert.deepEqual(variables.filter((name) => own.includes(name)).toSorted(), own.toSorted());
    assert.deepEqual(others, ['C100K_TOKEN']);
  });

  it('has no flag that does not exist', () => {
    const known = new Set([...FLAGS.map((flag) => flag.name), 'help', 'version']);
    for (const [, name] of manual.matchAll(/(?<![\w-])--([a-z][a-z-]*)/g))
      assert.ok(known.has(name ?? ''), `--${name}`);
  });

  it('names every command', () => {
    for (const { command } of COMMANDS) {
      assert.ok(manual.includes(command === 'run' ? '## The run' : `\n## ${command}\n`), command);
    }
  });

  it('lists exactly the exit codes, error codes and reasons that there are', () => {
    const sorted = (words: readonly string[]): string[] => words.toSorted();
    const without = (head: string, words: readonly string[]): string[] =>
      words.filter((word) => word !== head);
    assert.deepEqual(
      sorted(without('code', firstColumn('Exit codes'))),
      sorted(Object.values(ExitCode).map(String)),
    );
    assert.deepEqual(sorted(without('code', firstColumn('Errors'))), sorted(Object.values(ErrorCode)));
    assert.deepEqual(sorted(without('reason', firstColumn('Failures'))), sorted(Object.values(FailReason)));
    assert.deepEqual(sorted(without('reason', firstColumn('Drops'))), sorted(Object.values(DropReason)));
    assert.deepEqual(sorted(without('reason', firstColumn('Skips'))), sorted(Object.values(SkipReason)));
  });
});

describe('the error codes of the manual', () => {
  /** Exit codes by error code, as the sources throw them; a use that no pattern reads is in `unread`. */
  function thrown(): { readonly exits: ReadonlyMap<string, ReadonlySet<number>>; readonly unread: string[] } {
    const exits = new Map<string, Set<number>>();
    const unread: string[] = [];
    const add = (name: string, exit: number): void => {
      const code = ErrorCode[name as keyof typeof ErrorCode];
      exits.set(code, (exits.get(code) ?? new Set()).add(exit));
    };
    const folder = join(repositoryRoot, 'src');
    for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts') || file === join('base', 'errors.ts')) continue;
      const text = readFileSync(join(folder, file), 'utf8');
      for (const use of text.matchAll(/ErrorCode\.(\w+)/g)) {
        const [, name = ''] = use;
        const before = text.slice(Math.max(0, use.index - 80), use.index);
        const after = text.slice(use.index + use[0].length);
        const exit = /^(?:\s*:\s*ErrorCode\.\w+)?,\s*(?:exitCode:\s*)?ExitCode\.(\w+)/.exec(after)?.[1];
        if (/usageError\(\s*$/.test(before)) add(name, ExitCode.usage);
        else if (exit !== undefined) add(name, ExitCode[exit as keyof typeof ExitCode]);
        else if (!/[!=]==\s*$/.test(before)) unread.push(`${file}: ${use[0]}`);
      }
    }
    return { exits, unread };
  }

  it('are exactly those that the program throws, each with its exit codes', () => {
    const { exits, unread } = thrown();
    assert.deepEqual(unread, [], 'write the exit code beside the error code');
    const rows = section('Errors')
      .split('\n')
      .map((line) => /^\| `([a-z-]+)` \| ([^|]+) \|/.exec(line))
      .flatMap((match) => (match === null ? [] : [match]));
    assert.ok(rows.length > 15, 'the table was read');
    const told = rows.map(([, code, exit = '']) => [
      code,
      (exit.match(/\d+/g) ?? []).map(Number).toSorted((a, b) => a - b),
    ]);
    const does = [...exits].map(([code, set]) => [code, [...set].toSorted((a, b) => a - b)]);
    const byCode = (a: unknown[], b: unknown[]): number => String(a[0]).localeCompare(String(b[0]));
    assert.deepEqual(told.toSorted(byCode), does.toSorted(byCode));
  });
});

describe('the description of the control protocol', () => {
  /** A schema of valibot as this test needs it: something that holds further schemas. */
  interface SchemaNode {
    readonly type?: string;
    readonly literal?: unknown;
    readonly entries?: Readonly<Record<string, SchemaNode>>;
    readonly options?: readonly unknown[];
    readonly pipe?: readonly SchemaNode[];
    readonly wrapped?: SchemaNode;
    readonly item?: SchemaNode;
    readonly value?: SchemaNode;
  }

  /** Every message type and every field name, all the way down. */
  function wordsOf(node: SchemaNode | undefined, words: Set<string>): Set<string> {
    if (node === undefined || node === null || typeof node !== 'object') return words;
    for (const [name, inner] of Object.entries(node.entries ?? {})) {
      if (name !== 'type') words.add(name);
      else if (typeof inner.literal === 'string') words.add(inner.literal);
      wordsOf(inner, words);
    }
    const options = node.type === 'variant' ? (node.options as readonly SchemaNode[]) : [];
    for (const inner of [...options, ...(node.pipe ?? []), node.wrapped, node.item, node.value]) {
      if (inner !== node) wordsOf(inner, words);
    }
    return words;
  }

  it('names every type and every field of the schema, and no type that there is not', () => {
    const text = readFileSync(join(repositoryRoot, 'docs', 'PROTOCOL.md'), 'utf8');
    for (const schema of [agentMessageSchema, coordinatorMessageSchema] as unknown as SchemaNode[]) {
      const words = wordsOf(schema, new Set());
      assert.ok(words.size > 10, 'the schema was read');
      for (const word of words) assert.ok(text.includes(`\`${word}\``), `\`${word}\` is missing`);
    }
    const types = [agentMessageSchema, coordinatorMessageSchema].flatMap((schema) =>
      schema.options.map((option) => option.entries.type.literal as string),
    );
    const drawn = [...text.matchAll(/^agent (?:-->|<--) coordinator : ([a-z-]+) /gm)].map(
      (match) => match[1],
    );
    assert.deepEqual([...new Set(drawn)].filter((word) => word !== 'the').toSorted(), types.toSorted());
    assert.ok(text.startsWith(`# Control protocol, version ${PROTOCOL_VERSION}\n`));
  });
});

describe('the help', () => {
  it('knows every flag of every command, as the real command line prints it', async (t) => {
    const series = new CliSeries();
    t.after(() => series.close());
    for (const { command, exits } of COMMANDS) {
      const { stdout, code } = await series.run(command === 'run' ? ['help', 'run'] : [command, '--help']);
      assert.equal(code, 0);
      for (const flag of FLAGS.filter((one) => one.commands.includes(command))) {
        assert.ok(stdout.includes(`--${flag.name}`), `${command} --${flag.name}`);
      }
      const codes = (stdout.split('Exit codes:\n')[1] ?? '').match(/^ +\d+(?= {2})/gm)?.map(Number) ?? [];
      assert.deepEqual(
        codes,
        exits.map((exit) => exit.code),
        command,
      );
      if (command === 'run') assert.deepEqual(codes, Object.values(ExitCode));
    }
  });
});

describe('the schema of the report', () => {
  type Schema = {
    readonly properties?: Readonly<Record<string, Schema>>;
    readonly required?: readonly string[];
    readonly additionalProperties?: boolean | Schema;
    readonly items?: Schema;
    readonly $ref?: string;
    readonly description?: string;
  };
  const root = reportSchema() as Schema & { readonly $defs: Readonly<Record<string, Schema>> };

  function resolved(schema: Schema): Schema {
    return schema.$ref === undefined ? schema : (root.$defs[schema.$ref.replace('#/$defs/', '')] ?? {});
  }

  /** Compares the fields of an object with those of its schema, all the way down. */
  function compare(value: unknown, given: Schema, path: string): void {
    const schema = resolved(given);
    if (Array.isArray(value)) {
      assert.ok(schema.items, `${path} has no items`);
      for (const item of value) compare(item, schema.items, `${path}[]`);
      return;
    }
    if (value === null || typeof value !== 'object' || schema.properties === undefined) return;
    assert.equal(schema.additionalProperties, false, `${path} is open`);
    // Counts by reason are the one kind of object whose fields may be absent.
    if (schema.required !== undefined) {
      assert.deepEqual(Object.keys(value).toSorted(), Object.keys(schema.properties).toSorted(), path);
      // A report that was written before a field existed is still a report.
      const always = Object.entries(schema.properties).filter(
        ([, field]) => field.description?.endsWith('; absent in older reports') !== true,
      );
      assert.deepEqual(schema.required.toSorted(), always.map(([name]) => name).toSorted(), path);
    }
    for (const [name, inner] of Object.entries(value)) {
      compare(inner, schema.properties[name] ?? {}, `${path}.${name}`);
    }
  }

  it('has exactly the fields of a report, at every level', () => {
    compare(sampleReport(), root, 'report');
  });

  it('lists exactly the reasons that there are', () => {
    const keys = (name: string): string[] => Object.keys(root.$defs[name]?.properties ?? {}).toSorted();
    assert.deepEqual(keys('failed'), Object.values(FailReason).toSorted());
    assert.deepEqual(keys('dropped'), Object.values(DropReason).toSorted());
    assert.deepEqual(keys('localSkips'), Object.values(SkipReason).toSorted());
  });
});

it('the schema of run files is the one of the table of flags', () => {
  const published = readFileSync(join(repositoryRoot, 'docs', 'run-file.schema.json'), 'utf8');
  assert.equal(
    published,
    runFileSchemaJson(),
    'node bin/c100k-bench.js init --schema > docs/run-file.schema.json',
  );
});
