/**
 * Owns finding what makes a unit test depend on how busy the machine is: time that passed held against a number, and
 * waits that give up early. Must never judge a lower bound: nothing becomes faster by waiting for a processor.
 */

/** No wait may give up before this, in milliseconds. */
const DEADLINE_MS_MIN = 60_000;

const CLOCK =
  /(?:\b(?:performance|Date)\s*\.\s*now\(\)|\bprocess\s*\.\s*hrtime(?:\s*\.\s*bigint)?\(\)|\bmonotonicMs\(\))/
    .source;
/** A number, or a constant in capitals. */
const FIXED = /(?:\d|[A-Z][A-Z\d_]+\b)/.source;

/** Names that hold time that passed, whatever they were computed from. */
const TIME_NAMES = /\b(?:took|elapsed|lasted)\w*(?:Ms|Us|Ns|Sec|Seconds)\b/.source;

/** The arguments of each call of one of these functions, parentheses balanced, with where it stands. */
function callsOf(code: string, names: string): { readonly name: string; readonly args: string }[] {
  const calls: { name: string; args: string }[] = [];
  for (const match of code.matchAll(new RegExp(`(?<![\\w$])(${names})\\s*\\(`, 'g'))) {
    const from = (match.index ?? 0) + match[0].length;
    let depth = 1;
    let at = from;
    for (; at < code.length && depth > 0; at++) {
      if ('([{'.includes(code[at] ?? '')) depth++;
      else if (')]}'.includes(code[at] ?? '')) depth--;
    }
    calls.push({ name: match[1] ?? '', args: code.slice(from, at - 1) });
  }
  return calls;
}

/** The arguments themselves: split at the commas of the call. */
function topLevel(args: string): string[] {
  const parts = [''];
  let depth = 0;
  for (const character of args) {
    if ('([{'.includes(character)) depth++;
    else if (')]}'.includes(character)) depth--;
    if (character === ',' && depth === 0) parts.push('');
    else parts[parts.length - 1] += character;
  }
  return parts.map((part) => part.trim());
}

const numberOf = (text: string): number => Number(text.replaceAll('_', ''));

/** Variables that were given a difference of two readings of a clock. */
function differencesIn(code: string): string[] {
  const given = new RegExp(`\\b(?:const|let)\\s+(\\w+)\\s*=[^;]*?${CLOCK}\\s*-`, 'g');
  return [...code.matchAll(given)].map((match) => match[1] ?? '');
}

function heldAgainstANumber(code: string): string[] {
  const differences = differencesIn(code).map((name) => `|\\b${name}\\b`);
  const time = `(?:${CLOCK}\\s*-\\s*[\\w.]+|${TIME_NAMES}|\\.seconds\\b${differences.join('')})`;
  const upper = new RegExp(`${time}\\s*\\)?\\s*<=?\\s*${FIXED}|${FIXED}[\\d_.]*\\s*>=?\\s*\\(?\\s*${time}`);
  return callsOf(code, 'assert(?:\\.\\w+)?').flatMap(({ args }) => upper.exec(args)?.[0] ?? []);
}

function shortDeadlines(code: string): string[] {
  const found: string[] = [];
  for (const { name, args } of callsOf(code, '(?:\\w+\\.)?(?:until|within|settled|eventually)')) {
    const parts = topLevel(args);
    // Its deadline is the third; other functions of this name count something else.
    for (const part of name === 'settled' ? parts.slice(2, 3) : parts) {
      if (/^[\d_]+$/.test(part) && numberOf(part) < DEADLINE_MS_MIN) found.push(`${name}(… ${part} …)`);
    }
  }
  for (const { args } of callsOf(code, 'AbortSignal\\.timeout')) {
    if (numberOf(args) < DEADLINE_MS_MIN) found.push(`AbortSignal.timeout(${args})`);
  }
  const optioned = '(?:node)?[tT]est|it|describe|spawn|spawnSync|execFile|execFileSync';
  for (const { name, args } of callsOf(code, optioned)) {
    const options = topLevel(args).filter((part) => part.startsWith('{'));
    for (const option of options) {
      const ms = /\btimeout:\s*([\d_]+)\s*[,}]/.exec(option)?.[1];
      if (ms !== undefined && numberOf(ms) < DEADLINE_MS_MIN) found.push(`${name}(… timeout: ${ms} …)`);
    }
  }
  return found;
}

/**
 * What in a test depends on how busy the machine is.
 * @param code without comments, with strings blanked out
 */
export function wallTimeIn(code: string): string[] {
  return [...heldAgainstANumber(code), ...shortDeadlines(code)];
}
