import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createDisplay } from '../../src/cli/progress-display.ts';
import type { Phase, Progress } from '../../src/stats/stats.ts';

type DisplayStream = Parameters<typeof createDisplay>[0];

/** A stream that keeps what was written; a terminal of the given width, or none. */
function fakeStream(columns: number | null): DisplayStream & { text: string } {
  const stream = {
    text: '',
    isTTY: columns !== null,
    columns: columns ?? 0,
    rows: 24,
    write(chunk: string): boolean {
      stream.text += chunk;
      return true;
    },
  };
  return stream as unknown as DisplayStream & { text: string };
}

function progress(phase: Phase, elapsedMs: number, note: string | null = null): Progress {
  const total = {
    name: 'total',
    quota: 1000,
    open: 500,
    established: 500,
    pending: 5,
    failed: 0,
    dropped: 0,
    ratePerSec: 100,
    lost: false,
  };
  return { phase, elapsedMs, holdLeftMs: null, asked: 1000, total, agents: [{ ...total, name: 'a' }], note };
}

const ESCAPE = '\u001b';

const LINES = { quiet: false, periodic: true, everyMs: 5000 };

describe('the display without a terminal', () => {
  it('writes a line at each change of phase and every few seconds, and nothing before something is open', () => {
    const stream = fakeStream(null);
    const display = createDisplay(stream, LINES, {});
    display.show(progress('gathering', 0));
    display.show(progress('preparing', 100));
    assert.equal(stream.text, '');
    for (let ms = 1000; ms <= 12_000; ms += 1000) display.show(progress('ramping', ms));
    display.show(progress('holding', 12_500));
    display.stop();
    const lines = stream.text.trimEnd().split('\n');
    assert.deepEqual(
      lines.map((line) => line.slice(0, 16).trim()),
      ['1 s  ramping', '6 s  ramping', '11 s  ramping', '13 s  holding'],
    );
    assert.ok(!stream.text.includes('\u001b'), 'no escape sequences');
    assert.ok(!/[{}]/.test(stream.text), 'no raw tokens');
  });

  it('writes only changes of phase when periodic lines are off', () => {
    const stream = fakeStream(null);
    const display = createDisplay(stream, { ...LINES, periodic: false }, {});
    for (let ms = 1000; ms <= 60_000; ms += 1000) display.show(progress('ramping', ms));
    assert.equal(stream.text.trimEnd().split('\n').length, 1);
  });

  it('says a note once', () => {
    const stream = fakeStream(null);
    const display = createDisplay(stream, LINES, {});
    display.show(progress('gathering', 0, 'waiting for agent b'));
    display.show(progress('gathering', 1000, 'waiting for agent b'));
    assert.equal(stream.text, 'waiting for agent b\n');
  });

  it('writes nothing at all when quiet', () => {
    const stream = fakeStream(80);
    const display = createDisplay(stream, { ...LINES, quiet: true }, {});
    display.show(progress('ramping', 1000, 'note'));
    display.note('note');
    display.stop();
    assert.equal(stream.text, '');
  });
});

describe('the display on a terminal', () => {
  it('draws bars, changes no setting of the terminal, and leaves nothing behind', async () => {
    const stream = fakeStream(80);
    const display = createDisplay(stream, LINES, {});
    display.show(progress('ramping', 1000));
    await new Promise((resolve) => setTimeout(resolve, 450));
    assert.match(stream.text, /total +\[=+ +\] 500\/1,000/);
    assert.match(stream.text, /a +\[=+ +\] 500\/1,000/);
    display.note('agent a left');
    const before = stream.text.length;
    display.stop();
    assert.match(stream.text, /agent a left/);
    assert.ok(!stream.text.includes('\u001b[?'), 'neither cursor nor wrapping is switched off');
    const end = stream.text.slice(before);
    assert.ok(end.endsWith('\u001b[0J'), `the bars are erased at the end: ${JSON.stringify(end.slice(-40))}`);
    display.show(progress('ramping', 2000));
    await new Promise((resolve) => setTimeout(resolve, 450));
    assert.equal(stream.text.length, before + end.length, 'nothing is drawn after the stop');
  });

  it('leaves room for the ^C that the terminal echoes behind the last line', async () => {
    const stream = fakeStream(60);
    const display = createDisplay(stream, LINES, {});
    display.show(progress('ramping', 1000));
    await new Promise((resolve) => setTimeout(resolve, 450));
    display.stop();
    const control = new RegExp(`[\\n\\r]|${ESCAPE}\\[[0-9;]*[A-Za-z]`);
    const lines = stream.text.split(control).filter((line) => line.includes('500'));
    assert.ok(lines.length >= 2);
    for (const line of lines) assert.ok(line.length + '^C'.length < 60, line);
  });

  it('writes lines on a terminal that cannot move its cursor', () => {
    const stream = fakeStream(80);
    const display = createDisplay(stream, LINES, { TERM: 'dumb' });
    display.show(progress('ramping', 1000));
    assert.ok(!stream.text.includes('\u001b'));
    assert.match(stream.text, /ramping/);
  });
});
