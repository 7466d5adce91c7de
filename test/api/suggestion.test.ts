import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { nearestWord } from '../../src/api/suggestion.ts';

const FLAGS = ['target', 'conns', 'connect-timeout', 'rate', 'duration', 'source-ip', 'json', 'quiet'];

describe('the guess at a mistyped word', () => {
  it('finds what was shortened, lengthened, swapped or misspelt', () => {
    assert.equal(nearestWord('conn', FLAGS), 'conns');
    assert.equal(nearestWord('connections', FLAGS), null, 'as far from conns as from connect-timeout');
    assert.equal(nearestWord('tagret', FLAGS), 'target');
    assert.equal(nearestWord('durations', FLAGS), 'duration');
    assert.equal(nearestWord('source_ip', FLAGS), 'source-ip');
    assert.equal(nearestWord('jsn', FLAGS), 'json');
  });

  it('does not guess when nothing is near', () => {
    assert.equal(nearestWord('x', FLAGS), null);
    assert.equal(nearestWord('', FLAGS), null);
    assert.equal(nearestWord('keepalive', FLAGS), null);
  });
});
