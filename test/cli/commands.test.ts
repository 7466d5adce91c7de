/** Tests the table of commands: every example of the help is a command line that the parser takes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ExitCode } from '../../src/base/errors.ts';
import { parseCommandLine } from '../../src/cli/command-line.ts';
import { COMMANDS, EXAMPLES, POSITIONALS } from '../../src/cli/commands.ts';

/** The words of a line as a shell gives them, without what it does with the output. */
function words(line: string): string[] {
  const [command = ''] = line.split(/ (?:>|\|) /);
  return command.split(' ').map((word) => word.replace(/^'(.*)'$/, '$1'));
}

test('each command has an example, and each example is one that its command takes', async () => {
  for (const { command } of COMMANDS) {
    const examples = EXAMPLES[command] ?? [];
    assert(examples.length > 0, command);
    for (const [line, describe] of examples) {
      // A run file is read with the command line; one that says nothing is enough.
      const args = words(line).map((word) =>
        word === 'soak.yaml' && command === 'run' ? '/dev/null' : word,
      );
      const parsed = await parseCommandLine(args, {}, '1.2.3', 80);
      assert(parsed.kind === 'command', line);
      assert.equal(parsed.command, command, line);
      assert.notEqual(describe, '');
    }
  }
});

test('exit codes are those that there are, each once, ascending, with the two of every command', () => {
  const known = new Set<number>(Object.values(ExitCode));
  for (const { command, exits } of COMMANDS) {
    const codes = exits.map(({ code }) => code);
    assert.deepEqual(
      codes,
      [...new Set(codes)].toSorted((a, b) => a - b),
      command,
    );
    assert(
      codes.every((code) => known.has(code)),
      command,
    );
    assert(codes.includes(ExitCode.usage) && codes.includes(ExitCode.bug), command);
  }
});

test('a command that takes words says so in its notation', () => {
  for (const { command, words: notation } of COMMANDS)
    for (const { name } of POSITIONALS[command] ?? []) assert(notation.includes(name), command);
});
