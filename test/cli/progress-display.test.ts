import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LiveView, viewSize } from '../../src/cli/live-view.ts';
import { createDisplay } from '../../src/cli/progress-display.ts';
import type { Progress } from '../../src/coordinator/run-progress.ts';
import { noPaint, type Paint } from '../../src/report/layout.ts';
import type { Phase } from '../../src/stats/stats.ts';
import { TerminalScreen } from '../support/terminal-screen.ts';

type DisplayStream = Parameters<typeof createDisplay>[0];

/** A stream that keeps what was written; a terminal of the given width, or none. */
class FakeStream extends EventEmitter {
  text = '';
  readonly isTTY: boolean;
  readonly columns: number;
  readonly rows = 24;

  constructor(columns: number | null) {
    super();
    this.isTTY = columns !== null;
    this.columns = columns ?? 0;
  }

  readonly write = (chunk: string): boolean => {
    this.text += chunk;
    return true;
  };
}

/** Longer than the display waits between two drawings. */
const DRAWN_MS = 450;

function fakeStream(columns: number | null): DisplayStream & { text: string } {
  return new FakeStream(columns) as DisplayStream & FakeStream;
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
    isAwaited: false,
  };
  return {
    phase,
    elapsedMs,
    phaseMs: elapsedMs,
    holdLeftMs: null,
    leftMs: null,
    asked: 1000,
    total,
    agents: ['a', 'b'].map((name) => ({ ...total, name, quota: 500, open: 250 })),
    verified: null,
    target: null,
    failedBy: {},
    droppedBy: {},
    probeP99Ms: null,
    cpuCores: null,
    note,
  };
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
    await sleep(DRAWN_MS);
    assert.match(stream.text, /open +\[=+ +\] 500 of 1,000/);
    assert.match(stream.text, /a +\[=+ +\] 250\/500/);
    display.note('agent a left');
    const before = stream.text.length;
    display.stop();
    assert.match(stream.text, /agent a left/);
    assert.ok(!stream.text.includes('\u001b[?'), 'neither cursor nor wrapping is switched off');
    const end = stream.text.slice(before);
    assert.ok(end.endsWith('\u001b[0J'), `the bars are erased at the end: ${JSON.stringify(end.slice(-40))}`);
    display.show(progress('ramping', 2000));
    await sleep(DRAWN_MS);
    assert.equal(stream.text.length, before + end.length, 'nothing is drawn after the stop');
  });

  it('leaves room for the ^C that the terminal echoes behind the last line', async () => {
    const stream = fakeStream(60);
    const display = createDisplay(stream, LINES, {});
    display.show(progress('ramping', 1000));
    await sleep(DRAWN_MS);
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

describe('the display on a terminal whose size changes', () => {
  const screenOf = (screen: TerminalScreen): DisplayStream => screen as DisplayStream & TerminalScreen;

  it('stands there once, whatever the widths were, below the lines that stay', async (t) => {
    const screen = new TerminalScreen(120);
    screen.write('$ c100k-bench -t self -c 1000\n');
    const display = createDisplay(screenOf(screen), LINES, {});
    t.after(() => display.stop());
    display.show(progress('ramping', 1000));
    await sleep(DRAWN_MS);
    display.note('agent a left');
    // Below 60 columns our lines are broken; the last width is that of the picture below.
    for (const columns of [60, 100, 75, 50, 44, 120, 60]) {
      screen.resize(columns);
      await sleep(DRAWN_MS);
      assert.ok(
        screen.lines.every((line) => line.length < columns),
        screen.lines.join('\n'),
      );
      display.show(progress('ramping', 3000));
    }
    await sleep(DRAWN_MS);
    const view = new LiveView();
    view.add(progress('ramping', 1000));
    for (let seen = 0; seen < 7; seen++) view.add(progress('ramping', 3000));
    const expected = view.lines(viewSize(screen), noPaint).map(({ plain }) => plain.trimEnd());
    assert.deepEqual(screen.lines, ['$ c100k-bench -t self -c 1000', 'agent a left', ...expected]);
    display.stop();
    assert.deepEqual(screen.lines, ['$ c100k-bench -t self -c 1000', 'agent a left']);
    assert.equal(screen.listenerCount('resize'), 0);
  });

  it('leaves nothing behind when it has fewer lines than before', async (t) => {
    const screen = new TerminalScreen(60);
    const display = createDisplay(screenOf(screen), LINES, {});
    t.after(() => display.stop());
    const losing = { ...progress('holding', 1000), failedBy: { refused: 5 }, droppedBy: { rst: 3 } };
    display.show(losing);
    await sleep(DRAWN_MS);
    assert.ok(
      screen.lines.some((line) => /^ +3 dropped: rst 3$/.test(line)),
      screen.lines.join('\n'),
    );
    display.show({ ...losing, elapsedMs: 3000, agents: [], droppedBy: {} });
    await sleep(DRAWN_MS);
    assert.deepEqual(
      screen.lines.map((line) => line.slice(0, 11).trim()),
      ['holding', 'open', 'over time', 'lost'],
    );
    display.stop();
    assert.deepEqual(screen.lines, []);
  });

  it('colours what is given colours, and its lines stay whole', async (t) => {
    const screen = new TerminalScreen(60);
    const paint: Paint = (_style, text) => `${ESCAPE}[31m${text}${ESCAPE}[39m`;
    const display = createDisplay(screenOf(screen), { ...LINES, paint }, {});
    t.after(() => display.stop());
    const failedBy = { refused: 99_999_999, timeout: 1_234_567, 'source-exhausted': 12 };
    display.show({ ...progress('holding', 1000), failedBy });
    await sleep(DRAWN_MS);
    const [, , ...rest] = screen.lines;
    assert.match(rest.join(' '), /timeout 1,234,567, source-exhausted 12/);
    display.stop();
  });
});
