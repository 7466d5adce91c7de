/** Tests topics of the help: each is its section of the manual, whole, whatever the width. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { manualSection, TOPICS, tableCells, topicText } from '../../src/cli/help-topic.ts';
import { ownPackage } from '../../src/host/own-package.ts';

const manual = readFileSync(ownPackage().manualPath, 'utf8');

/** Words without marks of any kind. */
function words(text: string): Set<string> {
  return new Set(
    text
      .replaceAll(/\]\([^)]*\)/g, '')
      .replaceAll('\\|', '|')
      .split(/[\s`*[\](),;:.]+/)
      .filter((word) => /^[a-z0-9-]{2,}$/i.test(word) && !/^-+$/.test(word)),
  );
}

test('every word of a section is in its topic, and no line is wider than the terminal', () => {
  for (const topic of TOPICS)
    for (const width of [60, 80]) {
      const text = topicText(topic, manual, width);
      const said = words(text);
      const source = topic.headings.flatMap((heading) =>
        manualSection(manual, heading).filter(
          (line) => !/^\| (?:code|reason|flag|metric|variable|first word) \|/.test(line),
        ),
      );
      const missing = [...words(source.join('\n'))].filter((word) => !said.has(word));
      // The heads of a table's columns stand beside their cells, or not at all.
      assert(missing.length <= 6, `${topic.name}: ${missing.join(' ')}`);
      assert.doesNotMatch(text, /^\||`|\]\(/m, topic.name);
      for (const line of text.split('\n'))
        assert(
          line.length <= width || /^ {2}\S/.test(line) || !line.trim().includes(' '),
          `${topic.name}: ${line}`,
        );
    }
});

test('a section ends where the next one of its level begins, and holds those below it', () => {
  const text = '# A\n## B\nb\n### C\nc\n## D\nd';
  assert.deepEqual(manualSection(text, 'B'), ['## B', 'b', '### C', 'c']);
  assert.throws(() => manualSection(text, 'E'), /no heading E/);
});

test('a bar behind a backslash is text', () => {
  assert.deepEqual(tableCells('| `--close fin\\|rst` | [x](#y) |'), ['--close fin|rst', 'x']);
});

test('exit codes stand beside what they mean', () => {
  const topic = TOPICS.find(({ name }) => name === 'exit-codes');
  assert(topic !== undefined);
  const text = topicText(topic, manual, 80);
  assert.match(text, /^ {2}0 {3}held as required$/m);
  assert.match(text, /^ {2}143 interrupted by SIGTERM/m);
});
