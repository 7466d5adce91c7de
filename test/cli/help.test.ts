/** Tests how the help looks: what it names is all that there is, and nothing is wider than the terminal but a command to copy. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLAGS, flagsOf } from '../../src/api/flags/flags.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { allHelp, commandHelp, helpWords, shortHelp } from '../../src/cli/help.ts';
import { TOPICS } from '../../src/cli/help-topic.ts';

const WIDTHS = [60, 80, 100];

/** No line is wider, but an example, and a word that is. */
function assertFits(text: string, width: number): void {
  for (const line of text.split('\n')) {
    const isCommand = /^ {2}c100k-bench /.test(line) || line.startsWith('Usage:') || line.startsWith('  -');
    const isWord = !line.trim().includes(' ');
    assert(line.length <= width || isCommand || isWord, `${width}: ${line}`);
    if (line.startsWith('  -')) assert(line.length <= width, line);
  }
}

test('the short help has the usage, three examples, a dozen flags, every command and every topic', () => {
  for (const width of WIDTHS) assertFits(shortHelp(width), width);
  const text = shortHelp(80);
  assert.match(text, /^Usage: c100k-bench --target ENDPOINT --conns N \[flags\]\n/);
  const examples = /^Examples:\n([\s\S]*?)\n\n/m.exec(text)?.[1] ?? '';
  assert.equal(examples.match(/^ {2}c100k-bench /gm)?.length, 3);
  const named = [...text.matchAll(/^ {2}(?:-\w, )?--([a-z-]+)/gm)].map((match) => match[1] ?? '');
  assert.equal(named.length, 14, 'a dozen, --help and --version');
  const known = FLAGS.map(({ name }) => name);
  assert.deepEqual(
    named.filter((name) => !known.includes(name)),
    ['help', 'version'],
  );
  for (const { command } of COMMANDS)
    if (command !== 'run') assert.match(text, new RegExp(`^ {2}c100k-bench ${command} `, 'm'));
  for (const { name } of TOPICS) assert(text.includes(name), name);
  assert.doesNotMatch(text, /Exit codes:/);
});

test('the help of a command has its flags and no other, each in its group, with its default', () => {
  for (const { command, exits } of COMMANDS) {
    for (const width of WIDTHS) assertFits(commandHelp(command, width), width);
    const text = commandHelp(command, 80);
    const named = [...text.matchAll(/^ {2}(?:-\w, )?--([a-z0-9-]+)/gm)].map((match) => match[1] ?? '');
    const flags = flagsOf(command);
    assert.deepEqual(named.toSorted(), flags.map(({ name }) => name).toSorted(), command);
    for (const { group, default: fallback } of flags) {
      assert(text.includes(`\n${group}\n`), `${command} ${group}`);
      if (fallback !== null)
        assert(text.replaceAll(/\s+/g, ' ').includes(`[default: ${fallback}]`), fallback);
    }
    for (const { code } of exits) assert.match(text, new RegExp(`^ +${code} {2}`, 'm'), `${command} ${code}`);
  }
});

test('all is every command, one after the other; each word that there is help on is there once', () => {
  const text = allHelp(80);
  for (const { command } of COMMANDS) assert(text.includes(commandHelp(command, 80)), command);
  const words = helpWords();
  assert(['plan', 'exit-codes', 'all', 'man'].every((word) => words.includes(word)));
});
