/**
 * Owns what makes a text that came from another process safe to show: no control characters, nothing that changes the
 * direction of writing, no line that a CI server takes for an order. Must never know where a text is shown: each sink
 * (report/, cli/) escapes what its own format gives a meaning to.
 */

/** What moves the cursor, ends a line, hides or turns text, or is half a character (general categories of Unicode). */
const HOSTILE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Noncharacter_Code_Point}]/u;
const HOSTILE_ALL = new RegExp(HOSTILE.source, 'gu');
/** Those of them that stand for space between words. */
const SPACE_LIKE = /[\t\n\v\f\r\u0085\u2028\u2029]/;

/**
 * Orders to a CI server that it finds anywhere in a line: GitHub's and Azure's `##[`, `##vso[`, and TeamCity's.
 * @see https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
 */
const ORDER_ANYWHERE = /##(?=(?:\w+)?\[)/g;
/** GitHub's `::name key=value::text`, which it takes at the start of a line, behind spaces too. */
const ORDER_AT_START = /^(\s*):(?=:[\w-]+(?:\s[^\n]*)?::)/gm;

/** Whether a text can be shown as it is: in one line, without a character that is not itself visible. */
export function isCleanText(text: string): boolean {
  return !HOSTILE.test(text);
}

/**
 * One line of visible characters: line ends and tabs become spaces, every other control, format and half character `?`.
 * Cleaning twice changes nothing more, and the text gets no longer.
 */
export function cleanText(text: string): string {
  if (!HOSTILE.test(text)) return text;
  return text.replaceAll(HOSTILE_ALL, (character) => (SPACE_LIKE.test(character) ? ' ' : '?'));
}

/** The first characters of a text, without half of one at the end. @param charactersMax at least 0 */
export function cutText(text: string, charactersMax: number): string {
  const cut = text.slice(0, charactersMax);
  return /[\ud800-\udbff]$/.test(cut) ? cut.slice(0, -1) : cut;
}

/**
 * Lines for a terminal or the log of a CI server, each cleaned; line ends stay. Nothing in them is an order to that
 * server, wherever the wrapping of the text has put it.
 */
export function cleanLines(text: string): string {
  return withoutOrders(text.split('\n').map(cleanText).join('\n'));
}

/** The same lines with the orders in them broken up, so that they are text and nothing else. */
export function withoutOrders(text: string): string {
  return text.replaceAll(ORDER_ANYWHERE, '# #').replaceAll(ORDER_AT_START, '$1: ');
}

/** A value of which every text, keys included, is cleaned; keys that become the same are added up where they count. */
export function cleanDeep<Value>(value: Value): Value {
  return cleaned(value) as Value;
}

function cleaned(value: unknown): unknown {
  if (typeof value === 'string') return cleanText(value);
  if (Array.isArray(value)) return value.map(cleaned);
  if (typeof value !== 'object' || value === null) return value;
  const result: Record<string, unknown> = Object.create(null);
  for (const [key, each] of Object.entries(value)) {
    const name = cleanText(key);
    const before = result[name];
    const after = cleaned(each);
    result[name] = typeof before === 'number' && typeof after === 'number' ? before + after : after;
  }
  return result;
}

/** JSON text in which every hostile character is written as an escape: it says the same, and can be shown. */
export function cleanJson(json: string): string {
  if (!HOSTILE.test(json)) return json;
  return json.replaceAll(HOSTILE_ALL, (character) => {
    if (character === '\n') return character;
    return Array.from({ length: character.length }, (_, index) => escapeOf(character.charCodeAt(index))).join(
      '',
    );
  });
}

function escapeOf(unit: number): string {
  return `\\u${unit.toString(16).padStart(4, '0')}`;
}
