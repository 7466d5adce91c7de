import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createDisplay } from '../../src/cli/progress-display.ts';
import type { AgentProgress, Phase, Progress } from '../../src/stats/stats.ts';

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

function agent(change: Partial<AgentProgress> = {}): AgentProgress {
  return {
    name: 'local',
    quota: 130_000,
    open: 65_000,
    established: 65_000,
    pending: 512,
    failed: 12,
    dropped: 0,
    ratePerSec: 26_123,
    lost: false,
    ...change,
  };
}

function lineProgress(phase: Phase, change: Partial<Progress> = {}): Progress {
  const total = agent({ name: 'total' });
  return {
    phase,
    elapsedMs: 3000,
    holdLeftMs: null,
    asked: 130_000,
    total,
    agents: [agent()],
    note: null,
    ...change,
  };
}

/** Where the terminal echoes `^C`, behind the last line. */
const CTRL_C_COLUMNS = 2;
const CONTROL = new RegExp(`${ESCAPE}\\[[0-9;]*[A-Za-z]`, 'g');

/** The lines that a display draws: on a terminal that leaves the lines so many columns, of the total and of each agent. */
function drawn(given: Progress, widthColumns: number): { total: string; agents: string[] } {
  const stream = fakeStream(widthColumns + CTRL_C_COLUMNS);
  const display = createDisplay(stream, LINES, {});
  display.show(given);
  display.stop();
  const [total = '', ...agents] = stream.text.replaceAll(CONTROL, '').split('\n');
  return { total, agents };
}

/** What a display without a terminal writes of it. */
function logged(given: Progress): string {
  const stream = fakeStream(null);
  createDisplay(stream, LINES, {}).show(given);
  return stream.text.trimEnd();
}

describe('a line of progress on a terminal', () => {
  it('has open of asked, rate, pending, failed and phase on 80 columns', () => {
    const [line] = drawn(lineProgress('ramping'), 80).agents;
    assert.match(line ?? '', /^local +\[=+ +\] 65,000\/130,000 26\.1k\/s 512 pend 12 fail ramping$/);
  });

  it('has the seconds that are left of the hold', () => {
    const [line] = drawn(lineProgress('holding', { holdLeftMs: 12_300 }), 80).agents;
    assert.match(line ?? '', /holding 13s$/);
  });

  it('gives up the least important numbers first, and the open of asked never', () => {
    const at = (width: number): string => drawn(lineProgress('ramping'), width).agents[0] ?? '';
    assert.doesNotMatch(at(60), /pend/);
    assert.match(at(60), /26\.1k\/s/);
    assert.match(at(40), /65,000\/130,000/);
  });

  it('marks a lost agent', () => {
    const agents = [agent(), agent({ name: 'far', lost: true })];
    const [here, far] = drawn(lineProgress('ramping', { agents }), 80).agents;
    assert.match(here ?? '', /ramping$/);
    assert.match(far ?? '', /LOST$/);
  });

  it('fills its bar only when nothing is missing', () => {
    const bar = (open: number): string =>
      drawn(lineProgress('ramping', { agents: [agent({ open })] }), 80).agents[0] ?? '';
    assert.match(bar(129_999), /= \]/);
    assert.match(bar(130_000), /=\]/);
  });

  it('is always shorter than the terminal, and all lines of a picture have their columns in common', () => {
    const anyAgent = fc.record({
      name: fc.stringMatching(/^[a-z0-9.-]{1,60}$/),
      quota: fc.nat(100_000_000),
      open: fc.nat(100_000_000),
      established: fc.nat(100_000_000),
      pending: fc.nat(1_000_000),
      failed: fc.nat(100_000_000),
      dropped: fc.nat(100_000_000),
      ratePerSec: fc.double({ min: 0, max: 1e7, noNaN: true }),
      lost: fc.boolean(),
    });
    const phases = ['gathering', 'preparing', 'ramping', 'holding', 'draining', 'ended'] as const;
    const property = fc.property(
      fc.array(anyAgent, { minLength: 1, maxLength: 5 }),
      fc.constantFrom(...phases),
      fc.integer({ min: 2, max: 300 }),
      fc.nat(400_000_000),
      (agents, phase, width, holdLeftMs) => {
        const picture = drawn(lineProgress(phase, { holdLeftMs, agents }), width);
        assert.equal(picture.agents.length, agents.length);
        const rows = [picture.total, ...picture.agents];
        for (const row of rows) assert.ok(row.length < width, `${row.length} of ${width}: ${row}`);
        const bars = new Set(rows.map((row) => row.indexOf(']')));
        assert.equal(bars.size, 1);
      },
    );
    fc.assert(property, { numRuns: 300 });
  });
});

describe('a line of progress in a log', () => {
  it('has everything in words', () => {
    assert.equal(
      logged(lineProgress('ramping')),
      '   3 s  ramping    65,000 of 130,000 open  26,123/s  512 pending  12 failed  0 dropped',
    );
    assert.equal(
      logged(lineProgress('holding', { holdLeftMs: 5000, agents: [agent({ lost: true })] })),
      '   3 s  holding    65,000 of 130,000 open  12 failed  0 dropped  5s left  1 agent lost',
    );
  });
});
