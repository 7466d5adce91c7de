/**
 * Owns HTML made from parts: what stands between the parts is ours, every part that is no markup is text and is escaped.
 * Must never pass a text on as markup.
 */

/** HTML that is safe to show. */
export class Markup {
  readonly html: string;

  constructor(html: string) {
    this.html = html;
  }

  toString(): string {
    return this.html;
  }
}

type Part = string | number | Markup | readonly Markup[] | null;

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
  '`': '&#96;',
};

function escaped(text: string): string {
  return text.replaceAll(/[&<>"'`]/g, (character) => ESCAPES[character] ?? '');
}

function htmlOf(part: Part): string {
  if (part === null) return '';
  if (part instanceof Markup) return part.html;
  if (typeof part === 'string') return escaped(part);
  return typeof part === 'number' ? String(part) : part.map(({ html }) => html).join('');
}

/** A template: `` markup`<td>${text}</td>` ``. null becomes nothing. */
export function markup(pieces: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return new Markup(pieces.map((piece, at) => piece + htmlOf(parts[at] ?? null)).join(''));
}

/** One cell: a text, or markup. */
export type Cell = string | Markup;

/**
 * A table that scrolls by itself where the page is narrow. The first cell of a row is its head.
 * @param caption what it shows, for a reader who does not see it; is shown
 * @param heads one for each column
 */
export function htmlTable(
  caption: string,
  heads: readonly string[],
  rows: readonly (readonly Cell[])[],
): Markup {
  if (rows.length === 0) return markup`<p class="none">${caption}: none</p>`;
  const head = heads.map((text) => markup`<th scope="col">${text}</th>`);
  const body = rows.map((cells) => {
    const made = cells.map((cell, at) =>
      at === 0 ? markup`<th scope="row">${cell}</th>` : markup`<td>${cell}</td>`,
    );
    return markup`<tr>${made}</tr>\n`;
  });
  return markup`<div class="scroll" role="region" tabindex="0" aria-label="${caption}"><table><caption>${caption}</caption><thead><tr>${head}</tr></thead>
<tbody>${body}</tbody></table></div>`;
}

/** The table behind a chart, closed until it is asked for. @param id unique in the page */
export function tableBehind(id: string, title: string, table: Markup): Markup {
  return markup`<details id="${id}"><summary>${title}</summary>${table}</details>`;
}

/** Rows of a list that are open: the charts stay near the top of the page. */
const SHOWN_MAX = 24;

/** A list or table of which the rest is closed. @param made of some of the rows, with a title of its own */
export function openedInParts<Row>(
  id: string,
  what: string,
  rows: readonly Row[],
  made: (some: readonly Row[], title: string) => Markup,
): Markup {
  const first = made(rows.slice(0, SHOWN_MAX), what);
  const more = rows.length - SHOWN_MAX;
  if (more <= 0) return first;
  const title = `${more} more ${what}`;
  return markup`${first}${tableBehind(id, title, made(rows.slice(SHOWN_MAX), title))}`;
}

/** JSON inside a script element: no text in it can end the element or begin a comment. */
export function scriptJson(value: unknown): Markup {
  return new Markup(
    JSON.stringify(value).replaceAll(
      /[<>&\u2028\u2029]/g,
      (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
    ),
  );
}
