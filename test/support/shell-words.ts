/**
 * Owns reading the simple shell lines of our own documents: words, quotes, comments, pipes. Must never run one, and must
 * never be used for a script that somebody else wrote.
 */

/** The lines of a text; one that ends in a backslash goes on in the next. Empty ones are left out. */
export function joinedLines(text: string): string[] {
  return text
    .replaceAll(/\\\n\s*/g, ' ')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

/**
 * The commands of a line, each as its words: split at `|`, `>`, `;` and `&`, without quotes and comments.
 * @throws Error on a quote without its end
 */
export function shellWords(line: string): string[][] {
  const commands: string[][] = [[]];
  let word: string | null = null;
  let quote: string | null = null;
  const endWord = (): void => {
    if (word !== null) commands.at(-1)?.push(word);
    word = null;
  };
  for (const character of line) {
    if (quote !== null) {
      if (character === quote) quote = null;
      else word = (word ?? '') + character;
    } else if (character === "'" || character === '"') {
      quote = character;
      word ??= '';
    } else if (/\s/.test(character)) endWord();
    else if (character === '#' && word === null) break;
    else if ('|>;&'.includes(character)) {
      endWord();
      commands.push([]);
    } else word = (word ?? '') + character;
  }
  if (quote !== null) throw new Error(`no end of ${quote} in ${line}`);
  endWord();
  return commands.filter((words) => words.length > 0);
}
