/** Owns which failures the plan of `npm run torture` has for what a run used. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeFailure, failuresOf, type Uses, usesTried } from './torture-plan.ts';

const NEAR = 'a@l.js:1:1 < b@l.js:2:1 < c@l.js:3:1 < d@l.js:4:1 < e@l.js:5:1';

function holder(places: Readonly<Record<string, number>>, call = 'recvmsg'): Uses {
  return { role: 'holder', uses: { [call]: places }, left: {} };
}

function linesOf(used: readonly Uses[], known = new Set<string>()): string[] {
  return failuresOf(used, known).map(describeFailure);
}

test('few uses at a place are tried each, of a loop the ends and the middle', () => {
  assert.deepEqual(usesTried(1), [1]);
  assert.deepEqual(usesTried(4), [1, 2, 3, 4]);
  assert.deepEqual(usesTried(200), [1, 2, 100, 200]);
});

test('a call fails at each place with each errno, and from the first on where that errno lasts', () => {
  assert.deepEqual(linesOf([holder({ 'send@x.js:1:1 < top@x.js:2:2': 1, 'Ring.#read@y.js:1:1': 2 })]), [
    'recvmsg of the holder in send: EAGAIN at use 1',
    'recvmsg of the holder in send: ENOMEM at use 1',
    'recvmsg of the holder in send: ENOMEM at use 1 and after',
    'recvmsg of the holder in read: EAGAIN at use 1',
    'recvmsg of the holder in read: EAGAIN at use 2',
    'recvmsg of the holder in read: ENOMEM at use 1',
    'recvmsg of the holder in read: ENOMEM at use 2',
    'recvmsg of the holder in read: ENOMEM at use 1 and after',
  ]);
});

test('an only use does not fail from then on, and the process that used a place most says how often', () => {
  assert.deepEqual(linesOf([holder({ [NEAR]: 1 }), holder({ [NEAR]: 1 })]), [
    'recvmsg of the holder in a < b < c < d: EAGAIN at use 1',
    'recvmsg of the holder in a < b < c < d: ENOMEM at use 1',
  ]);
  const most = linesOf([holder({ [NEAR]: 1 }), holder({ [NEAR]: 2 })]);
  assert.ok(most.includes('recvmsg of the holder in a < b < c < d: EAGAIN at use 2'));
});

test('a place whose near functions were tried before is tried with one errno, at its ends', () => {
  const known = new Set<string>();
  linesOf([holder({ [`${NEAR} < f@l.js:6:1`]: 1 })], known);
  assert.deepEqual(linesOf([holder({ [`${NEAR} < g@l.js:7:1`]: 9 })], known), [
    'recvmsg of the holder in a < b < c < d: EAGAIN at use 1',
    'recvmsg of the holder in a < b < c < d: EAGAIN at use 9',
  ]);
  assert.equal(linesOf([holder({ [`${NEAR} < g@l.js:7:1`]: 9 }, 'listen')], known).length, 4);
});

test('places of one name have numbers', () => {
  const lines = linesOf([holder({ 'a@x.js:1:1': 1, 'a@x.js:2:1': 1 }, 'listen')]);
  assert.deepEqual(lines, [
    'listen of the holder in a: EADDRINUSE at use 1',
    'listen of the holder in a (2): EADDRINUSE at use 1',
  ]);
});
