/**
 * Owns that the Chinese documents stay those of the English ones: the same sections, code, flags, figures, tables and links in each
 * section, and punctuation as Chinese has it. What is written into one and not into the other fails here.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it, test } from 'node:test';
import { repositoryRoot } from './support/run-cli.ts';

const PAIRS: readonly string[] = ['README', 'docs/TOPOLOGIES', 'docs/DISTRIBUTED', 'docs/MANUAL'];

const CHINESE = /\p{Script=Han}/u;

interface Section {
  readonly level: number;
  readonly title: string;
  /** without its code blocks */
  readonly prose: string;
  readonly blocks: readonly string[];
}

function textOf(path: string): string {
  return readFileSync(join(repositoryRoot, path), 'utf8');
}

/** What follows `#` in a line of shell is for people, and so in their language. */
function withoutComments(block: string): string {
  return block.replace(/(?<=^|\s)# .*$/gm, '').replace(/[ \t]+$/gm, '');
}

/** The sections of a document: each heading with what stands below it up to the next. */
function sectionsOf(text: string): Section[] {
  const found: { level: number; title: string; prose: string; blocks: string[] }[] = [];
  let block: string[] | null = null;
  for (const line of text.split('\n')) {
    const last = found.at(-1);
    const head = /^(#{1,6}) (.*)/.exec(line);
    if (block !== null) block.push(line);
    else if (line.startsWith('```')) block = [line];
    else if (head !== null) found.push({ level: head[1]!.length, title: head[2]!, prose: '', blocks: [] });
    else if (last !== undefined) last.prose += `${line}\n`;
    if (block !== null && block.length > 1 && line.startsWith('```')) {
      last?.blocks.push(block.join('\n'));
      block = null;
    }
  }
  return found;
}

function sorted(found: Iterable<string>): string[] {
  return [...new Set(found)].toSorted();
}

function codeIn(prose: string): string[] {
  return sorted([...prose.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code));
}

/** Numbers outside code and outside where links lead, without separators of thousands. */
function figuresIn(prose: string): string[] {
  const bare = prose
    .replace(/`[^`]*`/g, ' ')
    .replace(/\]\([^)]*\)/g, '] ')
    .replace(/\b4-tuple/g, ' ');
  return sorted((bare.match(/\d[\d,.]*/g) ?? []).map((one) => one.replaceAll(',', '').replace(/\.+$/, '')));
}

/** Where links lead, without the language and without the heading: those have names of their own. */
function linksIn(prose: string): string[] {
  return sorted(
    [...prose.matchAll(/\]\(([^)#]*)(?:#[^)]*)?\)/g)].map(([, path = '']) => path.replace('.zh-CN', '')),
  );
}

function rowsIn(prose: string): string[] {
  return (prose.match(/^\|.*\|$/gm) ?? []).map((row) => `${row.split(/(?<!\\)\|/).length - 2} cells`);
}

/** The anchor of a heading, as GitHub makes it. */
function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\p{L}\p{M}\p{N}\p{Pc} -]/gu, '')
    .replaceAll(' ', '-');
}

/** Text that a person reads, line by line, without code and without where links lead. */
function proseLines(text: string): string[] {
  return sectionsOf(text).flatMap(({ title, prose, blocks }) => [
    title,
    ...prose
      .replace(/`[^`\n]*`/g, '`')
      .replace(/\]\([^)\n]*\)/g, ']')
      .split('\n'),
    ...blocks.flatMap((block) =>
      [...block.matchAll(/(?<=^|\s)# (.*)$/gm)].map(([, comment = '']) => comment.replace(/`[^`\n]*`/g, '`')),
    ),
  ]);
}

/** Lines with Chinese in which punctuation is not as wide as Chinese. */
function narrowIn(text: string): string[] {
  const narrow = [
    // A comma between digits parts thousands; a colon before a letter is an address.
    /(?<!\d),|,(?!\d)/,
    /[;!?](?!\[)/,
    /:(?=$|[\s*`\p{Script=Han}])|\p{Script=Han}:/u,
    /(?:\p{Script=Han}|[，。：；、？！“”（）])\s*[()"]|[()"]\s*(?:\p{Script=Han}|[，。：；、？！“”（）])/u,
    /\p{Script=Han}\s*\.(?:\s|$)/u,
    /\.\s+\p{Script=Han}/u,
    / [，。：；、？！（）]|[，。：；、？！（] /,
  ];
  return proseLines(text).filter(
    (line) =>
      CHINESE.test(line) && narrow.some((pattern) => pattern.test(line.replace(/^\s*(?:>|[-*]) /, ''))),
  );
}

for (const name of PAIRS) {
  describe(`${name}.zh-CN.md`, () => {
    const english = sectionsOf(textOf(`${name}.md`));
    const chinese = sectionsOf(textOf(`${name}.zh-CN.md`));

    it('has the sections of the English document', () => {
      assert.ok(english.length >= 7, 'the sections were read');
      assert.deepEqual(
        chinese.map(({ level }) => level),
        english.map(({ level }) => level),
        `${chinese.map(({ title }) => title).join(' | ')} and ${english.map(({ title }) => title).join(' | ')}`,
      );
      for (const { title } of chinese)
        assert.ok(CHINESE.test(title) || english.some((one) => one.title === title));
    });

    it('has in each section the code, flags, figures, tables and links of the English one', () => {
      for (const [at, wanted] of english.entries()) {
        const found = chinese[at];
        assert.ok(found !== undefined, wanted.title);
        const where = `${wanted.title} / ${found.title}`;
        assert.deepEqual(found.blocks.map(withoutComments), wanted.blocks.map(withoutComments), where);
        assert.deepEqual(codeIn(found.prose), codeIn(wanted.prose), where);
        assert.deepEqual(figuresIn(found.prose), figuresIn(wanted.prose), where);
        assert.deepEqual(rowsIn(found.prose), rowsIn(wanted.prose), where);
        if (!/zh-CN/.test(wanted.prose)) assert.deepEqual(linksIn(found.prose), linksIn(wanted.prose), where);
      }
    });

    it('has punctuation as Chinese has it', () => {
      const text = textOf(`${name}.zh-CN.md`);
      assert.ok((text.match(/[，。：]/g) ?? []).length > 50, 'there is punctuation');
      assert.deepEqual(narrowIn(text), []);
    });

    it('has links that lead somewhere', () => {
      const text = textOf(`${name}.zh-CN.md`);
      for (const [, path = '', anchor] of text.matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)) {
        const file = path === '' ? `${name}.zh-CN.md` : join(dirname(name), path);
        assert.ok(existsSync(join(repositoryRoot, file)), path);
        if (anchor === undefined || !file.endsWith('.md')) continue;
        const anchors = sectionsOf(textOf(file)).map(({ title }) => anchorOf(title));
        assert.ok(anchors.includes(anchor), `${path}#${anchor}`);
      }
    });
  });
}

test('the rules find what differs and what is narrow', () => {
  const [one, two] = sectionsOf(
    '# A\n\nx `--a` 5 [l](b.md#c)\n\n```sh\n# no heading\nrun # says\n```\n\n## B\n\ny\n',
  );
  assert.deepEqual([one?.title, one?.blocks.length, two?.title], ['A', 1, 'B']);
  assert.deepEqual(
    [codeIn(one!.prose), figuresIn(one!.prose), linksIn(one!.prose)],
    [['--a'], ['5'], ['b.md']],
  );
  assert.equal(withoutComments('run # says\n'), 'run\n');
  for (const bad of [
    '连接,端口',
    '共 5 个(五)',
    '是:',
    '好?',
    '用 `a`, 然后',
    '"服务器"',
    '四 。',
    '端口 (S2)',
    '连接. 端口',
  ])
    assert.equal(narrowIn(`# 题\n\n${bad}\n`).length, 1, bad);
  for (const good of [
    '连接 130,000 个，端口 1.2.3.4:8000。',
    '用 `a, b`（见 [S2](x.md)）',
    'plain, English: (yes)',
    '- 一，二',
  ])
    assert.deepEqual(narrowIn(`# 题\n\n${good}\n`), []);
});
