/**
 * Owns the rows of what a run is: target, load, sources, and how connections prove themselves.
 * Must never read a value (flags.ts).
 */
import { BANNER_BYTES_MAX, WS_MESSAGE_BYTES_MAX } from '../../base/endpoint.ts';
import { PROXY_VERSIONS } from '../../base/proxy-header.ts';
import { BODY_BYTES_MAX, REQUEST_METHODS } from '../../base/request-options.ts';

import { ALIAS_LEASE_MAX_MS, ALIAS_LEASE_MIN_MS } from '../../run/alias.ts';
import { RunBound } from '../../run/run-spec.ts';
import { type CommandName, flagSwitch, list, one } from './flag.ts';
import { holdTime, lifetime, stage } from './load-types.ts';
import { jitter, reopenAfter } from './reopen-types.ts';
import { answer, backendFrom, clients, expectation, header, message, subprotocol } from './request-types.ts';
import {
  aliasDevice,
  boundedText,
  choice,
  count,
  duration,
  file,
  hostHeader,
  portRanges,
  rate,
  requirement,
  servername,
  sourceAddresses,
  sourcePrefixes,
  statsUrls,
  target,
} from './value-types.ts';

const RUN: readonly CommandName[] = ['run', 'plan'];
const RUN_ONLY: readonly CommandName[] = ['run'];
/** What describes a host, wherever its agent runs. */
const HOSTS: readonly CommandName[] = ['run', 'plan', 'agent'];

/** Part of the table (flags.ts). */
export const RUN_FLAGS = {
  target: list({
    ...target,
    letter: 't',
    group: 'Target:',
    commands: ['run', 'plan', 'path'],
    describe:
      'what to connect to: host:port, host:8000-8080, [::1]:8000, with echo://, ws://, http://, mqtt://, tls://, wss://, https:// or mqtts:// in front, or self; repeatable',
    required: true,
    pods: 'argument',
  }),
  conns: one({
    ...count(1, RunBound.connections),
    letter: 'c',
    group: 'Load:',
    commands: RUN,
    describe: 'connections to hold, such as 130000, 130k or 1m; or --stage',
    defaultNote: 'required without --stage',
    pods: 'argument',
  }),
  rate: one({
    ...rate,
    letter: 'r',
    group: 'Load:',
    commands: RUN,
    describe: 'connects per second, such as 5000 or 5k/s',
    defaultNote: 'as fast as the target accepts',
    pods: 'argument',
  }),
  duration: one({
    ...holdTime,
    letter: 'd',
    group: 'Load:',
    commands: RUN,
    describe: 'how long to hold after the ramp, such as 90s or 1h30m; 0 or forever: until Ctrl-C',
    default: '30s',
    pods: 'argument',
  }),
  stage: list({
    ...stage,
    group: 'Load:',
    commands: RUN,
    describe:
      'a stage such as 2m:130k reaches so many connections within that time, in a straight line; repeatable, in place of --conns and --duration',
    pods: 'argument',
  }),
  'close-order': one({
    ...choice('newest', 'oldest'),
    group: 'Load:',
    commands: RUN,
    describe: 'which are closed where the stages go down',
    defaultNote: 'newest',
    pods: 'argument',
  }),
  churn: one({
    ...rate,
    group: 'Load:',
    commands: RUN,
    describe: 'close and open so many a second while the number stays, such as 5k/s; the oldest first',
    pods: 'argument',
  }),
  lifetime: one({
    ...lifetime,
    group: 'Load:',
    commands: RUN,
    describe:
      'close each connection after a time of its own and open another: 30s, exp:60s (mean) or uniform:10s..2m',
    pods: 'argument',
  }),
  'connect-timeout': one({
    ...duration(RunBound.answerMsMin, RunBound.answerMs),
    group: 'Load:',
    commands: RUN,
    describe: 'a connect that takes longer has failed',
    default: '10s',
    pods: 'argument',
  }),
  'max-pending': one({
    ...count(1, RunBound.connections),
    group: 'Load:',
    commands: RUN,
    describe: 'connects in flight at most',
    default: '1000',
    pods: 'argument',
  }),
  close: one({
    ...choice('fin', 'rst'),
    group: 'Load:',
    commands: RUN,
    describe: 'how to close: rst leaves no TIME_WAIT behind, so that the next run can start at once',
    default: 'rst',
    pods: 'argument',
  }),
  'source-ip': list({
    ...sourceAddresses,
    group: 'Sources:',
    commands: ['run', 'plan', 'agent', 'path'],
    describe: 'source address, range a-b or CIDR; repeatable',
    defaultNote: 'those of the interface towards the target; 127.0.0.2 upward on loopback',
    pods: 'argument',
  }),
  'source-ports': one({
    ...portRanges,
    group: 'Sources:',
    commands: ['run', 'plan', 'agent', 'path'],
    describe: 'source ports, such as 1024-32767,61000-65535',
    defaultNote: 'outside ip_local_port_range first',
    pods: 'argument',
  }),
  'source-prefix': list({
    ...sourcePrefixes,
    group: 'Sources:',
    commands: HOSTS,
    describe:
      'network that is routed to this host: each of its addresses becomes a source; repeatable; needs root',
    pods: 'argument',
  }),
  'alias-dev': one({
    ...aliasDevice,
    group: 'Sources:',
    commands: HOSTS,
    describe:
      'add those of --source-ip that this host lacks to this device for the run; auto: the device towards the target; needs root',
    pods: 'argument',
  }),
  'alias-lease': one({
    ...duration(ALIAS_LEASE_MIN_MS, ALIAS_LEASE_MAX_MS),
    group: 'Sources:',
    commands: HOSTS,
    describe: 'lifetime of added addresses: the kernel removes them when no process renews it',
    default: '60s',
    pods: 'argument',
  }),
  probe: one({
    ...choice('echo', 'whoami'),
    group: 'Proof:',
    commands: RUN,
    describe:
      'what a tcp:// target proves itself with; whoami also tells what the path makes of our addresses',
    pods: 'argument',
  }),
  'probe-every': one({
    ...duration(RunBound.probeEveryMsMin, RunBound.probeEveryMs),
    group: 'Proof:',
    commands: RUN,
    describe: 'how often each connection must prove itself',
    defaultNote: '10s; never for tcp and tls',
    pods: 'argument',
  }),
  'probe-timeout': one({
    ...duration(RunBound.answerMsMin, RunBound.answerMs),
    group: 'Proof:',
    commands: RUN,
    describe: 'a probe that is not answered within this time drops its connection',
    default: '10s',
    pods: 'argument',
  }),
  require: list({
    ...requirement,
    group: 'Proof:',
    commands: RUN_ONLY,
    describe: "what must be true at the end, such as 'held>=99.9%' or 'connect_p99<250ms'; repeatable",
    defaultNote: 'held>=100%',
    pods: 'argument',
  }),
  'abort-early': flagSwitch({
    group: 'Proof:',
    commands: RUN_ONLY,
    describe: 'end as soon as a requirement can no longer hold',
    pods: 'argument',
  }),
  'on-drop': one({
    ...choice('count', 'reopen'),
    group: 'Proof:',
    commands: RUN,
    describe: 'a connection that is lost while held is counted, or counted and opened again',
    default: 'count',
    pods: 'argument',
  }),
  'reopen-after': one({
    ...reopenAfter,
    group: 'Proof:',
    commands: RUN,
    describe:
      'with --on-drop reopen, how long a lost connection waits: immediate, fixed:1s, or backoff:1s..60s, which doubles after each try that fails',
    defaultNote: 'immediate, and 1s after each try that fails',
    pods: 'argument',
  }),
  'reopen-jitter': one({
    ...jitter,
    group: 'Proof:',
    commands: RUN,
    describe: 'with --on-drop reopen, the part of each wait that is left to chance, 0% to 100%',
    defaultNote: '0%',
    pods: 'argument',
  }),
  'backend-from': one({
    ...backendFrom,
    group: 'Proof:',
    commands: RUN,
    describe:
      'count connections by back end, whose name is the group of a /regex/ over their first bytes, or a response header: header:NAME',
    pods: 'argument',
  }),
  'target-stats': list({
    ...statsUrls,
    group: 'Proof:',
    commands: RUN_ONLY,
    describe:
      'http://host:port where the target tells its own count (serve --stats-listen); one for each target: a comma list, or repeated',
    pods: 'argument',
  }),
  'expect-banner': one({
    ...boundedText(BANNER_BYTES_MAX),
    group: 'Proof:',
    commands: RUN,
    describe: 'tcp, tls: the target speaks first, and begins with this text; any: with anything',
    pods: 'argument',
  }),
  'ws-message': one({
    ...boundedText(WS_MESSAGE_BYTES_MAX),
    group: 'Proof:',
    commands: RUN,
    describe: 'ws, wss: a text message to send before each ping',
    pods: 'argument',
  }),
  'first-message': one({
    ...message,
    fileAt: true,
    group: 'Proof:',
    commands: RUN,
    describe:
      "tcp, tls, ws, wss: what to send once when a connection is open, such as 'PING\\r\\n' or 0x0804; {conn}, {rand:16}: see Messages in the manual; @FILE: what is in the file",
    pods: 'argument',
  }),
  expect: one({
    ...expectation,
    fileAt: true,
    group: 'Proof:',
    commands: RUN,
    describe:
      "tcp, tls, ws, wss: what an answer begins with, such as '+PONG', or a /regular expression/; a connection counts once it has come; @FILE: what is in the file",
    pods: 'argument',
  }),
  answer: list({
    ...answer,
    group: 'Proof:',
    commands: RUN,
    describe:
      "tcp, tls, ws, wss: what to answer when the target says something, such as '2=3' for Socket.IO; repeatable",
    pods: 'argument',
  }),
  send: one({
    ...message,
    fileAt: true,
    group: 'Load:',
    commands: RUN,
    describe:
      'tcp, tls, echo, ws, wss: a message that each connection sends again and again; with --expect, and to echo, it must be answered; @FILE: what is in the file',
    pods: 'argument',
  }),
  'send-every': one({
    ...duration(RunBound.probeEveryMsMin, RunBound.probeEveryMs),
    group: 'Load:',
    commands: RUN,
    describe: 'how often each connection sends its message',
    defaultNote: '1s with --send',
    pods: 'argument',
  }),
  'http-status': one({
    ...count(200, 599),
    group: 'Proof:',
    commands: RUN,
    describe: 'http, https: the status that proves',
    defaultNote: '200 to 399',
    pods: 'argument',
  }),
  'host-header': one({
    ...hostHeader,
    group: 'Proof:',
    commands: RUN,
    describe: 'ws, wss, http, https: what to send as Host',
    defaultNote: 'the host of --target',
    pods: 'argument',
  }),
  header: list({
    ...header,
    fileAt: true,
    group: 'Proof:',
    commands: RUN,
    describe:
      "ws, wss, http, https: a header to send, such as 'Authorization: Bearer x'; @FILE: those in the file; repeatable",
    pods: 'argument',
  }),
  'ws-protocol': list({
    ...subprotocol,
    group: 'Proof:',
    commands: RUN,
    describe: 'ws, wss: a subprotocol to offer; the server must choose one of them; repeatable',
    pods: 'argument',
  }),
  method: one({
    ...choice(...REQUEST_METHODS),
    group: 'Proof:',
    commands: RUN,
    describe: 'http, https: the method of each request',
    defaultNote: 'GET; POST with --body',
    pods: 'argument',
  }),
  body: one({
    ...boundedText(BODY_BYTES_MAX),
    fileAt: true,
    group: 'Proof:',
    commands: RUN,
    describe: 'http, https: the body of each request; @FILE: what is in the file',
    pods: 'argument',
  }),
  'proxy-protocol': one({
    ...choice(...PROXY_VERSIONS),
    group: 'Proof:',
    commands: RUN,
    describe: 'begin each connection with a PROXY header of this version, before any protocol',
    pods: 'argument',
  }),
  'proxy-source': one({
    ...clients,
    group: 'Proof:',
    commands: RUN,
    describe:
      'with --proxy-protocol, the network of the clients in the header, such as 203.0.113.0/24: each connection is the next of them',
    defaultNote: 'each connection says its own source',
    pods: 'argument',
  }),
  'tls-servername': one({
    ...servername,
    group: 'Proof:',
    commands: RUN,
    describe: 'tls, wss, https, mqtts: name to ask for (SNI) and to find in the certificate',
    defaultNote: 'the host of --target',
    pods: 'argument',
  }),
  'tls-ca': one({
    ...file,
    group: 'Proof:',
    commands: RUN,
    describe: 'tls, wss, https, mqtts: file with the certificates to trust, PEM',
    defaultNote: 'those of Node.js',
    pods: 'manifest',
  }),
  insecure: flagSwitch({
    group: 'Proof:',
    commands: RUN,
    describe: 'tls, wss, https, mqtts: take any certificate',
    pods: 'argument',
  }),
  report: one({
    ...choice('short', 'full'),
    group: 'Output:',
    commands: ['run', 'report'],
    describe: 'how much of the result is shown: short fits a terminal of 24 rows',
    defaultNote: 'short on a terminal, full elsewhere',
    pods: 'argument',
    isOutput: true,
  }),
};
