/** Tests the lines about who comes to the control port: which there are, and that whoever knocks cannot make many. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Arrivals, joinedLine } from '../../src/coordinator/arrivals.ts';

test('who is turned away has one line with name, address and reason, however often it tries', () => {
  const lines: string[] = [];
  const arrivals = new Arrivals((line) => lines.push(line));
  const expired = { from: '10.0.0.3', name: 'vm', why: 'its token has expired' };
  for (let time = 0; time < 5; time++) arrivals.turnedAway(expired);
  arrivals.turnedAway({ from: '10.0.0.4', name: null, why: 'its token is not of this run' });
  assert.deepEqual(lines, [
    'turned away agent vm from 10.0.0.3: its token has expired',
    'turned away a client from 10.0.0.4: its token is not of this run',
  ]);
});

test('a client that shows no token has no line', () => {
  const lines: string[] = [];
  new Arrivals((line) => lines.push(line)).turnedAway(null);
  assert.deepEqual(lines, []);
});

test('of a thousand clients that are turned away twenty are shown, and that there are more', () => {
  const lines: string[] = [];
  const arrivals = new Arrivals((line) => lines.push(line));
  for (let host = 0; host < 1_000; host++)
    arrivals.turnedAway({ from: `10.0.${host >> 8}.${host & 255}`, name: null, why: 'no' });
  assert.equal(lines.length, 21);
  assert.equal(lines.at(-1), 'further clients that are turned away are not shown');
});

test('who joins has a line that counts, and says why its name is another', () => {
  assert.equal(
    joinedLine({ id: 'vm', name: 'vm', from: '10.0.0.3' }, 1, 3),
    'agent vm joined from 10.0.0.3: 1 of 3',
  );
  assert.equal(
    joinedLine({ id: 'vm-2', name: 'vm', from: '10.0.0.4' }, 2, 3),
    'agent vm-2 joined from 10.0.0.4 (it calls itself vm, as another agent does): 2 of 3',
  );
  assert.match(
    joinedLine({ id: 'spare', name: 'spare', from: '10.0.0.5' }, 4, 3),
    /: one more than expected$/,
  );
});
