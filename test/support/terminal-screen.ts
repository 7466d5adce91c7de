/**
 * Owns a terminal for tests: what is written becomes rows of characters, as a terminal shows them that breaks what is
 * too long when it becomes narrower (tmux, and most that people use). Must never import the program.
 */
import { EventEmitter } from 'node:events';

// biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one
const SEQUENCE = /\x1b\[(\d*)([A-Z])|\x1b\[[\d;]*m|([\n\r])|([^\x1b\n\r])/gu;

export class TerminalScreen extends EventEmitter {
  readonly isTTY = true;
  columns: number;
  rows: number;
  #lines: string[][] = [[]];
  #row = 0;
  #column = 0;

  constructor(columns: number, rows = 24) {
    super();
    this.columns = columns;
    this.rows = rows;
  }

  /** Every row that was ever written, those that have scrolled away among them, without blank ones at the end. */
  get lines(): string[] {
    const lines = this.#lines.map((cells) => cells.join('').trimEnd());
    while (lines.at(-1) === '') lines.pop();
    return lines;
  }

  /** As a person makes the window narrower or wider: lines that are too long are broken, and the process is told. */
  resize(columns: number): void {
    this.columns = columns;
    const broken = this.#lines.map((cells) => pieces(cells, columns));
    const above = broken.slice(0, this.#row).reduce((sum, rows) => sum + rows.length, 0);
    const own = Math.min((broken[this.#row]?.length ?? 1) - 1, Math.floor(this.#column / columns));
    this.#lines = broken.flat();
    this.#row = above + own;
    this.#column -= own * columns;
    this.emit('resize');
  }

  readonly write = (text: string): boolean => {
    for (const [, count, order, control, character] of text.matchAll(SEQUENCE)) {
      if (order !== undefined) this.#order(order, count === '' ? null : Number(count));
      else if (control === '\n') this.#newLine();
      else if (control === '\r') this.#column = 0;
      else if (character !== undefined) this.#put(character);
    }
    return true;
  };

  #put(character: string): void {
    if (this.#column >= this.columns) this.#newLine();
    const cells = this.#cells();
    while (cells.length < this.#column) cells.push(' ');
    cells[this.#column++] = character;
  }

  #newLine(): void {
    this.#row += 1;
    this.#column = 0;
    this.#cells();
  }

  #cells(): string[] {
    while (this.#lines.length <= this.#row) this.#lines.push([]);
    return this.#lines[this.#row] ?? [];
  }

  #order(order: string, count: number | null): void {
    // The cursor does not leave the screen: what has scrolled away stays.
    const top = Math.max(0, this.#lines.length - this.rows);
    if (order === 'A') this.#row = Math.max(top, this.#row - (count ?? 1));
    else if (order === 'G') this.#column = (count ?? 1) - 1;
    else if (order === 'K') this.#lines[this.#row] = count === 2 ? [] : this.#cells().slice(0, this.#column);
    else if (order === 'J') {
      this.#lines[this.#row] = this.#cells().slice(0, this.#column);
      this.#lines = this.#lines.slice(0, this.#row + 1);
    } else throw new Error(`this terminal does not know ESC [ ${count ?? ''} ${order}`);
  }
}

function pieces(cells: readonly string[], columns: number): string[][] {
  const parts: string[][] = [];
  for (let at = 0; at < Math.max(1, cells.length); at += columns) parts.push(cells.slice(at, at + columns));
  return parts;
}
