/**
 * Owns the guess at what a mistyped word was meant to be.
 * Must never change what was typed: it only proposes.
 */

/** The number of single-letter changes that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current[j] = Math.min(substituted, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1);
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}

/**
 * The known word nearest to a mistyped one: one that begins with it or that it begins with, else one at most
 * a third of its letters away; null when none is near.
 * @param typed what was typed, without dashes
 * @param known the words that exist
 */
export function nearestWord(typed: string, known: readonly string[]): string | null {
  if (typed === '') return null;
  let best: string | null = null;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const word of known) {
    const related = typed.length >= 3 && (word.startsWith(typed) || typed.startsWith(word));
    const distance = related ? 0.5 : editDistance(typed, word);
    const allowed = Math.max(1, Math.floor(Math.max(typed.length, word.length) / 3));
    if (distance <= allowed && distance < bestDistance) {
      best = word;
      bestDistance = distance;
    }
  }
  return best;
}
