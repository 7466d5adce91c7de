/** Owns the list of all cases. Must never have two of one name. */
import assert from 'node:assert/strict';
import type { CaseSpec } from './case.ts';
import { FIREWALL_CASES } from './catalogue/firewall.ts';
import { FURTHER_CASES } from './catalogue/further.ts';
import { GONE_CASES } from './catalogue/gone.ts';
import { HANDSHAKE_CASES } from './catalogue/handshakes.ts';
import { HOLD_END_CASES } from './catalogue/hold-end.ts';
import { LIMIT_CASES } from './catalogue/limits.ts';
import { OWN_SIDE_CASES } from './catalogue/own-side.ts';
import { PLACE_CASES } from './catalogue/places.ts';
import { REJECTION_CASES } from './catalogue/rejections.ts';
import { RIGHT_CASES } from './catalogue/right.ts';
import { STRANGER_CASES } from './catalogue/strangers.ts';
import { TIMEOUT_CASES } from './catalogue/timeouts.ts';
import { WAY_CASES } from './catalogue/ways.ts';
import { WORD_CASES } from './catalogue/words.ts';

export const CASES: readonly CaseSpec[] = [
  ...TIMEOUT_CASES,
  ...WORD_CASES,
  ...PLACE_CASES,
  ...FIREWALL_CASES,
  ...LIMIT_CASES,
  ...GONE_CASES,
  ...OWN_SIDE_CASES,
  ...HANDSHAKE_CASES,
  ...HOLD_END_CASES,
  ...RIGHT_CASES,
  ...STRANGER_CASES,
  ...REJECTION_CASES,
  ...FURTHER_CASES,
  ...WAY_CASES,
];

/** What each commit must show: faults that people have reported, and one case for each protocol. */
const CORE_NAMES: readonly string[] = [
  'haproxy-idle-timeout',
  'haproxy-killed-in-hold',
  'postgres-authentication-timeout',
  'pgbouncer-login-timeout',
  'pgbouncer-silent-clients',
  'socketio-connect-timeout',
  'ws-close-4406',
  'redis-protected-mode',
  'redis-maxclients',
  'sshd-maxstartups',
  'haproxy-maxconn-silent',
  'haproxy-maxconn-http',
  'three-source-ports-dropped',
  'nacl-source-ports',
  'nacl-ephemeral-ports',
  'one-endpoint-refuses',
  'one-endpoint-drops-own-host',
  'localhost-two-families',
  'own-link-down',
  'own-route-gone',
  'https-client-certificate',
  'tls-client-certificate',
  'http-to-https-port',
  'https-to-silent-port',
  'http10-server',
  'http2-only',
  'ws-401',
  'http-503-from-the-101st',
  'two-runs-at-once',
  'foreign-pool',
  'pids-max-60',
  'pids-max-20',
  'ulimit-u-20',
  'agents-of-one-name',
  'agent-with-a-wrong-clock',
  'apache-deferred-accept',
  'firewalld-admin-prohibited',
  'firewalld-port-unreachable',
  'link-flaps',
  'name-with-unreachable-family',
  'name-with-underscore',
  'mapped-address',
  'dual-stack-whoami',
  'first-process-of-a-container',
  'wss-policy-violation',
  'no-listener',
];
export const CORE_CASES: ReadonlySet<string> = new Set(CORE_NAMES);

const names = new Set(CASES.map(({ name }) => name));
assert.equal(names.size, CASES.length, 'two cases have one name');
for (const { name, looksLike } of CASES)
  assert(
    looksLike === undefined || names.has(looksLike),
    `${name} looks like ${looksLike}, which is no case`,
  );
for (const name of CORE_NAMES) assert(names.has(name), `${name} is no case`);
