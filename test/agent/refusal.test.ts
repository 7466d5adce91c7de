/** Tests which quotas a coordinator has leave for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkQuota } from '../../src/agent/refusal.ts';

type QuotaTerms = Parameters<typeof checkQuota>[1];
const TERMS: QuotaTerms = {
  connectionsMax: Number.POSITIVE_INFINITY,
  offered: 60,
  wholeRun: 100,
  pendingMax: 50,
  mayGrow: false,
  current: null,
  growths: 0,
};
const said = (connections: number, terms: Partial<QuotaTerms> = {}, pendingMax = 50): string | null => {
  const finding = checkQuota({ connections, pendingMax }, { ...TERMS, ...terms });
  return finding === null ? null : `${finding.what}: ${finding.message}`;
};

test('a quota within the offer and the run is taken', () => {
  assert.equal(said(60), null);
  assert.equal(said(0), null);
  assert.equal(said(60, { current: 5, mayGrow: true, growths: 63 }), null);
});

test('one beyond the owner’s limit, the offer, the run or its connects in flight is refused with the figures', () => {
  assert.match(
    said(8, { connectionsMax: 7 }) ?? '',
    /^max-conns: a quota of 8 connections, this agent allows 7$/,
  );
  assert.match(said(61) ?? '', /^quota: a quota of 61 connections was asked for, this agent offered 60$/);
  assert.match(said(31, { wholeRun: 30 }) ?? '', /^quota: .* the whole run has 30$/);
  assert.match(
    said(5, {}, 51) ?? '',
    /^pending: 51 connects in flight were asked for, the whole run has 50$/,
  );
});

// PROTOCOL.md: growth-times
test('one that grows is refused without leave, and when it grows without end', () => {
  assert.match(
    said(8, { current: 5 }) ?? '',
    /^quota: the quota grew from 5 to 8 connections, and this run was not/,
  );
  assert.match(said(8, { current: 5, mayGrow: true, growths: 64 }) ?? '', /^quota: .*, for the 65th time$/);
  assert.match(said(61, { current: 5, mayGrow: true }) ?? '', /this agent offered 60$/);
});
