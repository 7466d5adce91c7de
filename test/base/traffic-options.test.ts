/** Tests how messages, patterns and replies are read, with what is no such thing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  MESSAGE_BYTES_MAX,
  type MessageTemplate,
  messageProblem,
  NO_TRAFFIC,
  patternProblem,
  RAND_SIZE_MAX,
  readAnswer,
  readPattern,
  readTemplate,
  regexOf,
  renderedBytesMax,
  TEMPLATE_FIELDS,
  TEMPLATE_PARTS_MAX,
} from '../../src/base/traffic-options.ts';

/** A template as a text: places in angle brackets, bytes as they are. */
function shown({ parts, isBinary }: MessageTemplate): string {
  const text = parts.map((part) => {
    if (part.type === 'bytes') return Buffer.from(part.base64, 'base64').toString('latin1');
    if (part.type === 'field') return `<${part.name}>`;
    return part.type === 'rand' ? `<rand ${part.size}>` : `<group ${part.index}>`;
  });
  return `${isBinary ? 'binary ' : ''}${text.join('')}`;
}

function typed(text: string): string {
  const read = readTemplate(Buffer.from(text), { hasEscapes: true, hasGroups: false });
  return 'problem' in read ? `! ${read.problem}` : shown(read.value);
}

test('text, escapes, places and bytes', () => {
  assert.equal(typed('PING\\r\\n'), 'PING\r\n');
  assert.equal(typed('a\\t\\0\\x41\\\\\\{conn\\}\\=\\$\\@\\/'), 'a\t\0A\\{conn}=$@/');
  assert.equal(
    typed('{conn} {seq} {source}:{port} {agent} {time} {rand:8}{rand}'),
    '<conn> <seq> <source>:<port> <agent> <time> <rand 8><rand 16>',
  );
  assert.equal(typed('{}'), '{}', 'the ping of Centrifugo');
  assert.equal(typed('{"connect":{},"id":{seq}}'), '{"connect":{},"id":<seq>}');
  assert.equal(typed('0x0000000804d2162f'), 'binary \0\0\0\b\u0004\u00d2\u0016/');
  assert.equal(typed('0x00 ff\n01'), 'binary \0\u00ff\u0001');
  assert.equal(typed('grüß'), Buffer.from('grüß').toString('latin1'), 'UTF-8 is text');
  assert.equal(typed('\\xff'), 'binary \u00ff', 'what is no UTF-8 is not');
  assert.equal(typed('$1'), '$1', 'nothing was matched');
  assert.deepEqual(TEMPLATE_FIELDS, ['conn', 'seq', 'source', 'port', 'agent', 'time']);
});

test('a file is taken as it is, but for its places', () => {
  const read = readTemplate(Buffer.from('{"n":{seq},"path":"C:\\temp"}\n\xff', 'latin1'), {
    hasEscapes: false,
    hasGroups: false,
  });
  assert('value' in read);
  assert.equal(shown(read.value), 'binary {"n":<seq>,"path":"C:\\temp"}\n\u00ff');
});

test('what cannot be sent is refused in words', () => {
  assert.match(typed(''), /it is empty/);
  assert.match(typed('{con}'), /there is no \{con\} \(\{conn\}, \{seq\}/);
  assert.match(typed('{seq:4}'), /there is no \{seq:4\}/);
  assert.match(typed('{rand:0}'), /\{rand:0\} is not between 1 and 64/);
  assert.match(typed(`{rand:${RAND_SIZE_MAX + 1}}`), /not between/);
  assert.match(typed('\\q'), /there is no escape \\q/);
  assert.match(typed('\\x4'), /there is no escape \\x/);
  assert.match(typed('0x123'), /pairs of hexadecimal digits/);
  assert.match(typed('x'.repeat(MESSAGE_BYTES_MAX + 1)), /longer than 16384 bytes/);
  assert.equal(typed('x'.repeat(MESSAGE_BYTES_MAX)).length, MESSAGE_BYTES_MAX);
  assert.match(typed('{conn}'.repeat(TEMPLATE_PARTS_MAX + 1)), /more than 64 pieces/);
});

function patternType(text: string): string {
  const read = readPattern(text);
  return 'value' in read ? read.value.type : read.problem;
}

test('a pattern is a text or a regular expression', () => {
  const regex = readPattern('/^[SN]/i');
  assert.deepEqual(regex, { value: { type: 'regex', source: '^[SN]', flags: 'i' } });
  for (const text of ['/a', '\\/a/', '/a/b c'])
    assert.equal(patternType(text), 'text', `${text} is a text that begins with a slash`);
  const bytes = readPattern('/ü/');
  assert('value' in bytes && bytes.value.type === 'regex');
  assert(regexOf(bytes.value).test(Buffer.from('grün').toString('latin1')), 'it sees bytes');
  for (const [text, what] of [
    ['/(/', /Invalid regular expression/],
    ['/x/g', /the flags of a regular expression are i, m and s, not g/],
    ['/x/ii', /not ii/],
    ['//', /matches anything/],
    [`/${'x'.repeat(513)}/`, /at most 512 characters/],
    ['{con}', /there is no \{con\}/],
  ] as const) {
    const read = readPattern(text);
    assert('problem' in read && what.test(read.problem), `${text}: ${JSON.stringify(read)}`);
  }
});

test('an answer is parted at the first = that is in no expression and behind no backslash', () => {
  const parted = (text: string): string => {
    const read = readAnswer(text);
    if ('problem' in read) return `! ${read.problem}`;
    const { pattern, reply } = read.value;
    return `${pattern.type === 'text' ? shown(pattern.template) : `/${pattern.source}/${pattern.flags}`} -> ${shown(reply)}`;
  };
  assert.equal(parted('2=3'), '2 -> 3');
  assert.equal(parted('{}={}'), '{} -> {}');
  assert.equal(parted('a\\=b=c=d'), 'a=b -> c=d');
  assert.equal(parted('/^PING (.*)/=PONG $1\\r\\n'), '/^PING (.*)/ -> PONG <group 1>\r\n');
  assert.equal(parted('/a=\\/b/m=x'), '/a=\\/b/m -> x');
  assert.equal(parted('0x01=0x02'), 'binary \u0001 -> binary \u0002');
  assert.equal(parted('2=$1'), '2 -> $1', 'a text has no groups');
  assert.equal(parted('2={seq}'), '2 -> <seq>');
  for (const text of ['2', '=3', '2=', '{conn}=x', '/(/=x', '2={x}']) assert.match(parted(text), /^! /, text);
});

test('what crosses the control channel is measured by the same rules', () => {
  const parts = [{ type: 'rand', size: RAND_SIZE_MAX }] as const;
  assert.equal(renderedBytesMax({ isBinary: false, parts }), RAND_SIZE_MAX);
  assert.equal(messageProblem({ isBinary: false, parts }), null);
  assert.notEqual(messageProblem({ isBinary: false, parts: [] }), null);
  assert.notEqual(patternProblem({ type: 'regex', source: '(', flags: '' }), null);
  assert.deepEqual(NO_TRAFFIC, { first: null, expect: null, answers: [], send: null });
});
