/**
 * Owns finding a wait that counts its sleeps where it should look at a clock: on a busy machine each sleep is longer than it
 * says, and what is asked between two of them takes time too. Must never judge a wait that ends with a deadline.
 */

/** What puts a process to sleep, or calls it again later. */
const SLEEPS =
  /(?<![\w$])(?:await\s+(?:[\w.#]+\.)?(?:pause|sleep|delay)|after|every|setTimeout|setInterval)\s*\(/;
/** A fixed step: a number, or a constant in capitals. */
const STEP = /\+\+|--|[+-]=\s*(?:\d[\d_.]*|[A-Z][A-Z\d_]+)\b/.source;
/** Steps of a counter: `tries++`, `--this.#left`, `waitedMs += LOOK_EVERY_MS`. */
const STEPPED = new RegExp(`([\\w$.#]+)\\s*(?:${STEP})|(?:\\+\\+|--)\\s*([\\w$.#]+)`, 'g');

/** Where the bracket that opens at `from` closes. */
function closing(code: string, from: number): number {
  let depth = 0;
  for (let at = from; at < code.length; at += 1) {
    if ('([{'.includes(code[at] ?? '')) depth += 1;
    else if (')]}'.includes(code[at] ?? '')) depth -= 1;
    if (depth === 0) return at + 1;
  }
  return code.length;
}

/** The statement that begins at `from`: a block, or up to its semicolon. */
function statementEnd(code: string, from: number): number {
  let at = from;
  while (/\s/.test(code[at] ?? '')) at += 1;
  if (code[at] === '{') return closing(code, at);
  for (; at < code.length; at += 1) {
    if (code[at] === ';') return at + 1;
    if ('([{'.includes(code[at] ?? '')) at = closing(code, at) - 1;
  }
  return code.length;
}

interface Part {
  readonly name: string;
  readonly text: string;
}

/** Loops, header and body. */
function loopsOf(code: string): Part[] {
  return [...code.matchAll(/(?<![\w$.])(?:for(?:\s+await)?|while)\s*\(|(?<![\w$.])do\s*\{/g)].map((match) => {
    const opens = match.index + match[0].length - 1;
    const head = closing(code, opens);
    const condition = /^\s*while\s*\([^;]*/.exec(code.slice(head))?.[0].length ?? 0;
    const end = match[0].startsWith('do') ? head + condition : statementEnd(code, head);
    return { name: match[0].split(/\W/)[0] ?? '', text: code.slice(match.index, end) };
  });
}

/** Functions that hand themselves to a timer, and what is called each time that a period is over. */
function repeatsOf(code: string): Part[] {
  const named = /(?:function\s+(\w+)|const\s+(\w+)\s*=\s*(?:async\s*)?)\s*(?=\()/g;
  const again = [...code.matchAll(named)].flatMap((match) => {
    const name = match[1] ?? match[2] ?? '';
    const head = closing(code, match.index + match[0].length);
    const arrow = /^[^;{]*?(?:=>\s*)?(?=[{\w(])/.exec(code.slice(head))?.[0].length ?? 0;
    const text = code.slice(match.index, statementEnd(code, head + arrow));
    const isAgain = new RegExp(`(?:after|setTimeout)\\s*\\([^;]*\\b${name}\\b`).test(text);
    return isAgain ? [{ name, text }] : [];
  });
  const periods = [...code.matchAll(/(?<![\w$.])(?:every|setInterval)\s*\(/g)].map((match) => {
    const opens = match.index + match[0].length - 1;
    const call = code.slice(match.index, closing(code, opens));
    return { name: 'every', text: call + methodsCalledIn(call, code) };
  });
  return [...again, ...periods];
}

/** The bodies of the methods of the same class that a call names: `this.#tick()`. */
function methodsCalledIn(call: string, code: string): string {
  return [...call.matchAll(/this\.(#?\w+)(?=\(|\s*[,)])/g)]
    .map(([, name = '']) => {
      const head = new RegExp(`\\n\\s+(?:async\\s+)?${name}\\(`).exec(code);
      if (head === null) return '';
      const opens = code.indexOf('{', closing(code, head.index + head[0].length - 1));
      return code.slice(opens, closing(code, opens));
    })
    .join('\n');
}

/** A counter that is stepped in a part, and held against something there. */
function counterOf(text: string): string | null {
  for (const match of text.matchAll(STEPPED)) {
    const counter = match[1] ?? match[2] ?? '';
    const name = counter.replaceAll(/[$.]/g, '\\$&');
    const rest = text.replaceAll(match[0], match[0].replace(new RegExp(STEP), ''));
    const compared = new RegExp(
      `(?<![\\w$.#])${name}\\s*(?:[<>]=?|[!=]==|%)|(?:[<>]=?|[!=]==)\\s*${name}(?![\\w$.#])`,
    );
    if (compared.test(rest)) return counter;
  }
  return null;
}

/**
 * Waits that end, or do something, after so many sleeps.
 * @param code without comments, with strings blanked out
 */
export function countedSleepsIn(code: string): string[] {
  const loops = loopsOf(code).filter(({ text }) => SLEEPS.test(text));
  const listed = loops.filter(({ text }) => /^for[^{]*\bof\s+(?:Array\b|[^{]*\.keys\(\))/.test(text));
  const counted = [...loops, ...repeatsOf(code)].flatMap(({ name, text }) => {
    const counter = counterOf(text);
    return counter === null ? [] : [`${name}: ${counter} counts sleeps`];
  });
  return [...counted, ...listed.map(() => 'for: sleeps once for each of so many')];
}
