import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { judgePath } from '../../src/path/path-verdict.ts';
import type { SeenCounts } from '../../src/stats/observed-sources.ts';
import { NOTHING_OBSERVED } from '../support/nothing-observed.ts';

function judge(seen: Partial<SeenCounts>, ports: { from: number; to: number }[] | null = null) {
  return judgePath({ seen: { ...NOTHING_OBSERVED, ...seen }, ports });
}

const behindRouter: Partial<SeenCounts> = {
  sourceChanged: 300,
  portKept: 100,
  portChanged: 200,
  portMin: 1_024,
  portMax: 65_000,
  bySource: { '1.2.3.11>192.168.0.1': 150, '1.2.3.12>192.168.0.1': 150 },
  byEndpoint: { '1.2.3.4:8000>192.168.0.1': 300 },
};

const behindProxy: Partial<SeenCounts> = {
  ...behindRouter,
  portKept: 0,
  portChanged: 300,
  portMin: 32_800,
  portMax: 60_990,
};

describe('the judgement of a path', () => {
  it('finds no ceiling where every source arrives as it was bound', () => {
    const verdict = judge({ sourceKept: 300, portKept: 300, bySource: { '1.2.3.11>1.2.3.11': 300 } });
    assert.equal(verdict.kind, 'preserved');
    assert.equal(verdict.ceiling, null);
    assert.equal(verdict.sentence, 'your router forwards without translating: no 64k ceiling from the path');
  });

  it('says loopback where nothing is between, and why nothing is known of a dead target', () => {
    const seen = { ...NOTHING_OBSERVED, sourceKept: 300, portKept: 300 };
    assert.match(judgePath({ seen, ports: null, isLoopback: true }).sentence, /^loopback: /);
    const dead = judgePath({ seen: NOTHING_OBSERVED, ports: null, failure: 'no process listens there' });
    assert.equal(dead.kind, 'unknown');
    assert.equal(dead.sentence, 'nothing is known of the path: no process listens there');
  });

  it('finds 64,512 behind one address, and says what would lift it', () => {
    const verdict = judge(behindRouter);
    assert.equal(verdict.kind, 'translated');
    assert.equal(verdict.sentence, 'everything arrives from 192.168.0.1: 64,512 connections at most');
    assert.match(verdict.lift.join('\n'), /without masquerading/);
  });

  it('knows a program that takes the default ports of the kernel: 28,232', () => {
    const verdict = judge(behindProxy);
    assert.match(verdict.sentence, /: 28,232 connections at most$/);
    assert.match(verdict.lift.join('\n'), /source <address>:1024-65535/);
  });

  it('does not take too few ports for a range', () => {
    assert.equal(judge({ ...behindProxy, portChanged: 99, sourceChanged: 99 }).ceiling, 64_512);
    assert.equal(judge({ ...behindProxy, portMax: 61_000 }).ceiling, 64_512);
    assert.equal(judge({ ...behindProxy, portKept: 1 }).ceiling, 64_512);
  });

  it('believes the user about the ports of the hop', () => {
    assert.equal(judge(behindProxy, [{ from: 20_000, to: 20_999 }]).ceiling, 1_000);
  });

  it('multiplies by the addresses of a pool, and by endpoints that share an address', () => {
    const pool = judge({
      ...behindRouter,
      bySource: { 'a>192.168.0.11': 100, 'a>192.168.0.12': 100, 'b>192.168.0.13': 100 },
      byEndpoint: { 'e>192.168.0.11': 100, 'e>192.168.0.12': 100, 'e>192.168.0.13': 100 },
    });
    assert.match(pool.sentence, /^everything arrives from 3 addresses \(.*\): 193,536 connections at most$/);
    const endpoints = judge({
      ...behindRouter,
      byEndpoint: { 'e:1>192.168.0.1': 100, 'e:2>192.168.0.1': 100, 'e:3>192.168.0.1': 100 },
    });
    assert.equal(endpoints.ceiling, 193_536);
    const roundRobin = judge({
      ...behindRouter,
      bySource: { 'a>192.168.0.1': 100, 'a>192.168.0.2': 100 },
      byEndpoint: { 'e:1>192.168.0.1': 100, 'e:2>192.168.0.2': 100 },
    });
    assert.equal(roundRobin.ceiling, 129_024);
  });

  it('says how many when only some are translated', () => {
    const verdict = judge({
      ...behindRouter,
      sourceKept: 100,
      sourceChanged: 200,
      bySource: { 'a>a': 100, 'b>192.168.0.1': 200 },
    });
    assert.equal(verdict.kind, 'mixed');
    assert.match(verdict.sentence, /^200 of 300 arrives from 192\.168\.0\.1/);
  });

  it('says so when the target reported nothing', () => {
    assert.equal(judge({}).kind, 'unknown');
    assert.match(judge({}).sentence, /serve --mode whoami/);
  });
});
