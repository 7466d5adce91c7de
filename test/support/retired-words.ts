/**
 * Owns finding retired expressions in texts and names: `mendedPart`, `mended-part` and "a mended\n * part" are the same
 * words. Must never hold the list; test/retired-words.json does.
 */

/** An expression that is no longer used, as a regular expression on lower-case words, and what to write instead. */
export interface RetiredWord {
  readonly retired: string;
  readonly plain: string;
  /** a field of the report or the control channel that keeps this name, because others read it */
  readonly field?: string;
}

/** A line without the name of a field: in code where it is a property, in prose where it is set as code. */
function withoutField(line: string, path: string, field: string | undefined): string {
  if (field === undefined) return line;
  const name = new RegExp(
    `(?<=\\.)${field}\\b|\\b${field}(?=\\??:)|(?<=[{,] )${field}(?=[ ,]*[},])|(?<=')${field}(?=')`,
    'g',
  );
  const whole = new RegExp(`\\b${field}\\b`, 'g');
  const isProse = !path.endsWith('.ts') || /^\s*(?:\*|\/\/|\/\*)/.test(line);
  return isProse ? line.replace(/`[^`]*`/g, (code) => code.replace(whole, ' ')) : line.replace(name, ' ');
}

/** Lower-case words with one space between them: names are taken apart, comment marks and line ends are no words. */
function wordsOf(line: string): string {
  return line
    .replace(/([a-z0-9])([A-Z])/g, '$1 $2')
    .replace(/^\s*(?:\*|\/\/|\/\*\*|#)/, ' ')
    .replace(/[^A-Za-z0-9']+/g, ' ')
    .toLowerCase()
    .trim();
}

/** One line per place in a text where a retired expression stands, also over the end of a line. */
export function retiredWordsIn(path: string, text: string, list: readonly RetiredWord[]): string[] {
  const offences: string[] = [];
  for (const { retired, plain, field } of list) {
    const lines = text.split('\n').map((line) => wordsOf(withoutField(line, path, field)));
    const pattern = new RegExp(`(?<![a-z0-9])(?:${retired})(?![a-z0-9])`, 'g');
    for (const [index, line] of lines.entries())
      for (const match of `${line} ${lines[index + 1] ?? ''}`.matchAll(pattern))
        if (match.index < line.length) offences.push(`${path}:${index + 1}: "${match[0]}": write ${plain}`);
  }
  return offences;
}

/** The titles of the tests in a test file, one a line and each in the line where it stands. */
export function titlesOf(text: string): string {
  return text
    .split('\n')
    .map((line, index, all) => {
      const opens = /\b(?:test|it|describe|scenario)(?:\.\w+)?\(\s*(.*)$/.exec(line);
      if (opens === null) return '';
      const rest = opens[1] === '' ? (all[index + 1] ?? '') : (opens[1] ?? '');
      return /^\s*(['"`])((?:\\.|(?!\1).)*)\1/.exec(rest)?.[2] ?? '';
    })
    .join('\n');
}
