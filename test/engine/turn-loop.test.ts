/** Tests how late a loop says it was. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LoopLag } from '../../src/engine/turn-loop.ts';

test('a sleep that lasted as long as it was asked to is no lag, what a turn took and overslept is', () => {
  const lag = new LoopLag();
  lag.turnBegins(100, 0, true);
  lag.turnEnds(103);
  lag.turnBegins(1_103, 1_000, true);
  assert.equal(lag.msMax, 3);
  lag.turnEnds(1_105);
  lag.turnBegins(1_155, 10, true);
  assert.equal(lag.msMax, 42, '2 ms of work and 40 ms overslept');
});

test('a wait that an event ended early makes up for nothing', () => {
  const lag = new LoopLag();
  lag.turnBegins(1, 0, true);
  lag.turnEnds(6);
  lag.turnBegins(7, 1_000, true);
  assert.equal(lag.msMax, 5);
});

test('a turn in which nothing happened was late for nothing, so only the maximum knows of it', () => {
  const lag = new LoopLag();
  lag.turnBegins(1, 0, false);
  lag.turnEnds(2);
  lag.turnBegins(500, 0, false);
  assert.equal(lag.msP99, 0);
  assert.equal(lag.msMax, 499);
  lag.turnEnds(510);
  lag.turnBegins(510, 0, true);
  assert(Math.abs(lag.msP99 - 10) < 0.2, `${lag.msP99}`);
});

test('the lag since the hold began does not know of the ramp', () => {
  const lag = new LoopLag();
  lag.turnBegins(1, 0, true);
  lag.turnEnds(2);
  assert.equal(lag.turnBegins(3_002, 0, true), 3_001, 'a turn knows how late it is');
  assert.equal(lag.holdMsMax, 0);
  lag.turnEnds(3_003);
  lag.markHold();
  lag.turnBegins(3_503, 0, false);
  assert.equal(lag.holdMsMax, 501);
  assert.equal(lag.msMax, 3_001);
});
