/**
 * Owns the flags that ask about the way to the target: the hops of `plan --via`, and what `path` looks for.
 * Must never parse a value.
 */
import type { CommandName, Flag } from './flag.ts';

const PLAN_ONLY: readonly CommandName[] = ['plan'];
const PATH_ONLY: readonly CommandName[] = ['path'];

/** Part of `FLAGS` (flags.ts). */
export const PATH_FLAGS: readonly Flag[] = [
  {
    name: 'via',
    letter: null,
    kind: 'list',
    group: 'Path:',
    commands: PLAN_ONLY,
    describe:
      'a hop between us and the server: masquerade:1, snat:<addresses>, haproxy:<sources>x<endpoints>, dnat, direct; repeatable',
    default: null,
  },
  {
    name: 'via-ports',
    letter: null,
    kind: 'one',
    group: 'Path:',
    commands: ['plan', 'path'],
    describe: 'ports that each address of the hop has, such as 32768-60999',
    default: null,
    defaultNote: '1024-65535 for NAT, 32768-60999 for HAProxy',
  },
  {
    name: 'via-source',
    letter: null,
    kind: 'one',
    group: 'Path:',
    commands: PLAN_ONLY,
    describe: 'first address of the hop towards the server, for the lines to copy',
    default: '192.168.0.102/24',
  },
  {
    name: 'via-server',
    letter: null,
    kind: 'one',
    group: 'Path:',
    commands: PLAN_ONLY,
    describe: 'address:port of the server as the hop sees it, for the lines to copy',
    default: '192.168.0.101:8000',
  },
  {
    name: 'samples',
    letter: null,
    kind: 'one',
    group: 'Path:',
    commands: PATH_ONLY,
    describe: 'connections that are opened to look at the path',
    default: '300',
  },
  {
    name: 'find-idle-timeout',
    letter: null,
    kind: 'switch',
    group: 'Path:',
    commands: PATH_ONLY,
    describe: 'find after how long the path forgets an idle connection; the target must echo',
    default: null,
  },
  {
    name: 'idle-max',
    letter: null,
    kind: 'one',
    group: 'Path:',
    commands: PATH_ONLY,
    describe: 'the longest idle time that is tried',
    default: '10m',
  },
];
