/** Tests what an agent may say of its evidence: bounds of every list, words of later versions. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v from 'valibot';
import { evidenceSchema, kernelFurther } from '../../src/control/evidence-schema.ts';
import { evidenceOf } from '../support/sample-evidence.ts';

const plain = structuredClone;
type Said = Record<string, unknown>;
const said = (change: Said = {}): unknown => ({ ...plain(evidenceOf(1)), ...change });
const isTaken = (value: unknown): boolean => v.is(evidenceSchema, value);

test('evidence passes as it is', () => {
  assert.deepEqual(plain(v.parse(evidenceSchema, said())), plain(evidenceOf(1)));
});

test('a later version may say more: unknown fields are left out, unknown reasons count as other', () => {
  const place = {
    asked: 5,
    established: 1,
    failed: { refused: 1, 'no-luck': 2, 'other-luck': 1 },
    dropped: {},
    rate: 3,
  };
  const parsed = v.parse(evidenceSchema, said({ byEndpoint: { 'a:1': place }, byMoon: { full: 1 } }));
  assert(!('byMoon' in parsed));
  assert.deepEqual(plain(parsed.byEndpoint['a:1']), {
    asked: 5,
    established: 1,
    failed: { refused: 1, other: 3 },
    dropped: {},
  });
});

const many = (length: number): number[] => Array.from({ length }, () => 1);
const series = (established: unknown, folds: unknown = 0): Said => ({
  connectsAt: { folds, counts: { established, answeredNo: [], silent: [] } },
});
const rows = (length: number): Said =>
  Object.fromEntries(many(length).map((_, index) => [`p${index}`, evidenceOf(1).byEndpoint['10.0.9.9:80']]));
const texts = (length: number, text: string): Said => ({
  said: { texts: many(length).map((first) => ({ text, first, last: 0 })), other: 0 },
});

test('each list and table has its bound: at it is taken, beyond it is refused', () => {
  const bounds: readonly (readonly [what: string, at: Said, beyond: Said])[] = [
    ['buckets', series(many(240)), series(many(241))],
    ['folds', series([1], 46), series([1], 47)],
    ['whole folds', series([1], 1), series([1], 0.5)],
    ['counts', series([2 ** 43]), series([2 ** 43 + 1])],
    ['no negative count', series([0]), series([-1])],
    ['a list', series([]), series({ length: 1, 0: 1 })],
    ['places', { byEndpoint: rows(257) }, { byEndpoint: rows(258) }],
    ['sources', { bySourceOutcome: rows(257) }, { bySourceOutcome: rows(258) }],
    ['port blocks', blocksOf(64), blocksOf(65)],
    ['gaps', { gapsBetweenFailures: many(17) }, { gapsBetweenFailures: many(18) }],
    ['texts', texts(16, 'x'), texts(17, 'x')],
    ['characters', texts(1, 'x'.repeat(480)), texts(1, 'x'.repeat(481))],
    ['printable', texts(1, String.raw`\x1b`), texts(1, '\u001b')],
    ['probes', { notSent: 0 }, { notSent: -1 }],
  ];
  for (const [what, at, beyond] of bounds) {
    assert(isTaken(said(at)), `${what} at the bound`);
    assert(!isTaken(said(beyond)), `${what} beyond the bound`);
  }
});

function blocksOf(length: number): Said {
  return { byPortBlock: { asked: many(length), established: [], answeredNo: [], silent: [] } };
}

test('a place is a visible name, and none that objects have', () => {
  const row = evidenceOf(1).byEndpoint['10.0.9.9:80'];
  for (const name of ['', 'a b', 'a\nb', 'x'.repeat(65), '\u00e4']) {
    assert(!isTaken(said({ byEndpoint: { [name]: row } })), JSON.stringify(name));
  }
  const parsed = v.parse(evidenceSchema, said({ byEndpoint: JSON.parse('{"__proto__":{"asked":1}}') }));
  assert.deepEqual(Object.keys(parsed.byEndpoint), []);
});

test('what a kernel says further has its bounds too, and a later word is taken as the one that says least', () => {
  const schema = v.object(kernelFurther);
  const far = {
    ...{ waitingMax: 1, waitingLast: 1, takenLast: 1, halfOpenMax: 1, halfOpenLast: 0, isQueueFull: true },
    ...{ isOwnerGone: null, descriptorsUsed: 5, descriptorsMax: null },
  };
  const own = (lost: number, how = 'carrier'): Said => ({
    ownNetwork: {
      linksDown: { eth0: how },
      routesLost: many(lost).map((_, at) => `r${at}`),
      addressesLost: [],
    },
  });
  const sides = (count: number): Said => ({
    farSide: Object.fromEntries(many(count).map((_, at) => [`e${at}`, far])),
  });
  assert(v.is(schema, {}));
  for (const [at, beyond] of [
    [own(256), own(257)],
    [sides(256), sides(257)],
    [{ farSide: { a: far } }, { farSide: { a: { ...far, waitingLast: -1 } } }],
    [{ farSide: { a: far } }, { farSide: { 'a b': far } }],
  ]) {
    assert(v.is(schema, at));
    assert(!v.is(schema, beyond));
  }
  assert.equal(v.parse(schema, own(0, 'asleep')).ownNetwork?.linksDown.eth0, 'carrier');
  const after = { connect: 'puzzled', planConnect: null, isRouted: null, isNeighbourThere: null };
  assert.equal(v.parse(schema, { aftermath: { a: after } }).aftermath?.a?.connect, 'silent');
});
