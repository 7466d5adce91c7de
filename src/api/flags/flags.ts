/**
 * Owns the list of flags: name, letter, default, help text, which command takes it. The parser, the help, the
 * completion scripts, the environment variables and the test of docs/MANUAL.md all read this one list.
 * Must never parse a value (run-options.ts).
 */
import type { CommandName, Flag } from './flag.ts';
import { KUBERNETES_FLAGS, withPods } from './kubernetes-flags.ts';
import { PATH_FLAGS } from './path-flags.ts';
import { PROOF_FLAGS } from './proof-flags.ts';

const RUN: readonly CommandName[] = ['run', 'plan'];
const RUN_ONLY: readonly CommandName[] = ['run'];
/** What describes a host, wherever its agent runs. */
const HOSTS: readonly CommandName[] = ['run', 'plan', 'agent'];

const TARGET_FLAGS: readonly Flag[] = [
  {
    name: 'target',
    letter: 't',
    kind: 'list',
    group: 'Target:',
    commands: [...RUN, 'path'],
    describe:
      'what to connect to: host:port, host:8000-8080, [::1]:8000, with echo://, ws://, http://, tls://, wss:// or https:// in front, or self; repeatable',
    default: null,
    required: true,
  },
];

const LOAD_FLAGS: readonly Flag[] = [
  {
    name: 'conns',
    letter: 'c',
    kind: 'one',
    group: 'Load:',
    commands: RUN,
    describe: 'connections to hold, such as 130000, 130k or 1m',
    default: null,
    required: true,
  },
  {
    name: 'rate',
    letter: 'r',
    kind: 'one',
    group: 'Load:',
    commands: RUN,
    describe: 'connects per second, such as 5000 or 5k/s',
    default: null,
    defaultNote: 'as fast as the target accepts',
  },
  {
    name: 'duration',
    letter: 'd',
    kind: 'one',
    group: 'Load:',
    commands: RUN,
    describe: 'how long to hold after the ramp, such as 90s or 1h30m',
    default: '30s',
  },
  {
    name: 'connect-timeout',
    letter: null,
    kind: 'one',
    group: 'Load:',
    commands: RUN,
    describe: 'a connect that takes longer has failed',
    default: '10s',
  },
  {
    name: 'max-pending',
    letter: null,
    kind: 'one',
    group: 'Load:',
    commands: RUN,
    describe: 'connects in flight at most',
    default: '1000',
  },
  {
    name: 'close',
    letter: null,
    kind: 'one',
    group: 'Load:',
    commands: RUN,
    describe: 'how to close: rst leaves no TIME_WAIT behind, so that the next run can start at once',
    default: 'rst',
    choices: ['fin', 'rst'],
  },
];

const SOURCE_FLAGS: readonly Flag[] = [
  {
    name: 'source-ip',
    letter: null,
    kind: 'list',
    group: 'Sources:',
    commands: [...HOSTS, 'path'],
    describe: 'source address, range a-b or CIDR; repeatable',
    default: null,
    defaultNote: 'those of the interface towards the target; 127.0.0.2 upward on loopback',
  },
  {
    name: 'source-ports',
    letter: null,
    kind: 'one',
    group: 'Sources:',
    commands: [...HOSTS, 'path'],
    describe: 'source ports, such as 1024-32767,61000-65535',
    default: null,
    defaultNote: 'outside ip_local_port_range first',
  },
  {
    name: 'source-prefix',
    letter: null,
    kind: 'list',
    group: 'Sources:',
    commands: HOSTS,
    describe:
      'network that is routed to this host: each of its addresses becomes a source; repeatable; needs root',
    default: null,
  },
  {
    name: 'alias-dev',
    letter: null,
    kind: 'one',
    group: 'Sources:',
    commands: HOSTS,
    describe:
      'add those of --source-ip that this host lacks to this device for the run; auto: the device towards the target; needs root',
    default: null,
  },
  {
    name: 'alias-lease',
    letter: null,
    kind: 'one',
    group: 'Sources:',
    commands: HOSTS,
    describe: 'lifetime of added addresses: the kernel removes them when nobody is left to renew it',
    default: '60s',
  },
];

const CLEANUP_FLAGS: readonly Flag[] = [
  {
    name: 'dry-run',
    letter: null,
    kind: 'switch',
    group: 'Cleanup:',
    commands: ['cleanup'],
    describe: 'only say what would be removed',
    default: null,
  },
];

const AGENT_FLAGS: readonly Flag[] = [
  {
    name: 'holders',
    letter: null,
    kind: 'one',
    group: 'Agents:',
    commands: HOSTS,
    describe: 'holder processes on this host',
    default: null,
    defaultNote: 'as many as descriptors and cores ask for',
  },
  {
    name: 'agents',
    letter: null,
    kind: 'one',
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'who takes a quota: local, remote, or local,remote',
    default: null,
    defaultNote: 'remote when agents are expected, otherwise local',
  },
  {
    name: 'expect-agents',
    letter: null,
    kind: 'one',
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'how many agents will join from elsewhere',
    default: null,
  },
  {
    name: 'listen',
    letter: null,
    kind: 'one',
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'address:port where agents join',
    default: null,
    defaultNote: '127.0.0.1 and a free port; 0.0.0.0 with --ssh',
  },
  {
    name: 'wait-agents',
    letter: null,
    kind: 'one',
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'how long to wait for them',
    default: '60s',
  },
  {
    name: 'on-agent-loss',
    letter: null,
    kind: 'one',
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'a lost agent ends the run, is gone without, or its quota goes to others after its lease',
    default: 'continue',
    choices: ['fail', 'continue', 'replace'],
  },
  {
    name: 'ssh',
    letter: null,
    kind: 'list',
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'start an agent on user@host through ssh; a comma list, or repeated',
    default: null,
  },
  {
    name: 'ssh-command',
    letter: null,
    kind: 'one',
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'what to run there',
    default: 'c100k-bench',
  },
  {
    name: 'ssh-option',
    letter: null,
    kind: 'list',
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'further arguments of ssh; with = because they begin with a dash: --ssh-option="-p 2222"',
    default: null,
  },
  {
    name: 'advertise',
    letter: null,
    kind: 'one',
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'host:port under which agents reach this coordinator',
    default: null,
    defaultNote: 'an address of this host',
  },
];

const JOIN_FLAGS: readonly Flag[] = [
  {
    name: 'join',
    letter: null,
    kind: 'one',
    group: 'Agent:',
    commands: ['agent'],
    describe: 'host:port of the coordinator',
    default: null,
    required: true,
  },
  {
    name: 'token-file',
    letter: null,
    kind: 'one',
    group: 'Agent:',
    commands: ['run', 'agent', 'token'],
    describe: 'file that holds the token; a run or token command makes it (mode 0600) when it is not there',
    default: null,
    defaultNote: 'C100K_TOKEN; a run without either makes a token for itself',
    file: true,
  },
  {
    name: 'name',
    letter: null,
    kind: 'one',
    group: 'Agent:',
    commands: ['agent', 'token'],
    describe: 'what the run calls this agent',
    default: null,
    defaultNote: 'the name in the token, or the host name',
  },
  {
    name: 'token-stdin',
    letter: null,
    kind: 'switch',
    group: 'Agent:',
    commands: ['agent'],
    describe: 'the token is the first line of stdin; the end of stdin stops the agent',
    default: null,
  },
  {
    name: 'expires',
    letter: null,
    kind: 'one',
    group: 'Agent:',
    commands: ['token'],
    describe: 'how long the token is good for, such as 24h',
    default: null,
    defaultNote: 'for ever',
  },
  {
    name: 'allow-target',
    letter: null,
    kind: 'list',
    group: 'Agent:',
    commands: ['agent', 'token'],
    describe: 'CIDR:ports that this agent may connect to; repeatable',
    default: null,
    defaultNote: 'private and loopback addresses',
  },
  {
    name: 'max-conns',
    letter: null,
    kind: 'one',
    group: 'Agent:',
    commands: ['agent'],
    describe: 'connections at most, whatever the coordinator says',
    default: null,
  },
  {
    name: 'max-rate',
    letter: null,
    kind: 'one',
    group: 'Agent:',
    commands: ['agent'],
    describe: 'connects per second at most',
    default: null,
  },
  {
    name: 'max-duration',
    letter: null,
    kind: 'one',
    group: 'Agent:',
    commands: ['agent'],
    describe: 'from the start until everything is closed, at most',
    default: null,
  },
  {
    name: 'stay',
    letter: null,
    kind: 'switch',
    group: 'Agent:',
    commands: ['agent'],
    describe: 'serve one run after the other instead of one',
    default: null,
  },
  {
    name: 'wait-coordinator',
    letter: null,
    kind: 'one',
    group: 'Agent:',
    commands: ['agent'],
    describe: 'how long to try to reach the coordinator',
    default: '60s',
  },
  {
    name: 'partial-report',
    letter: null,
    kind: 'one',
    group: 'Agent:',
    commands: ['agent'],
    describe: 'where the last stats go when the coordinator is lost',
    default: null,
    defaultNote: 'c100k-bench-NAME-partial.json in the temporary folder',
    file: true,
  },
];

const OUTPUT_FLAGS: readonly Flag[] = [
  {
    name: 'events',
    letter: null,
    kind: 'one',
    group: 'Output:',
    commands: RUN_ONLY,
    describe: 'write every loss to this file, one JSON object a line',
    default: null,
    file: true,
  },
  {
    name: 'junit',
    letter: null,
    kind: 'one',
    group: 'Output:',
    commands: RUN_ONLY,
    describe: 'write JUnit XML to this file: a test case for each requirement',
    default: null,
    file: true,
  },
  {
    name: 'prometheus',
    letter: null,
    kind: 'one',
    group: 'Output:',
    commands: RUN_ONLY,
    describe: 'write a text file for the collector of a node exporter',
    default: null,
    file: true,
  },
  {
    name: 'json',
    letter: null,
    kind: 'one',
    group: 'Output:',
    commands: [...RUN, 'path'],
    describe: 'write the result as JSON to this file; - writes it to stdout and the text to stderr',
    default: null,
    file: true,
  },
  {
    name: 'quiet',
    letter: 'q',
    kind: 'switch',
    group: 'Output:',
    commands: [...RUN, 'path', 'serve'],
    describe: 'nothing on stderr but errors',
    default: null,
  },
  {
    name: 'verbose',
    letter: 'v',
    kind: 'switch',
    group: 'Output:',
    commands: RUN,
    describe: 'also say what is assumed for the flags that were not given',
    default: null,
  },
  {
    name: 'no-progress',
    letter: null,
    kind: 'switch',
    group: 'Output:',
    commands: RUN_ONLY,
    describe: 'no bars and no periodic lines, only each change of phase',
    default: null,
  },
  {
    name: 'progress-every',
    letter: null,
    kind: 'one',
    group: 'Output:',
    commands: RUN_ONLY,
    describe: 'time between progress lines when stderr is not a terminal',
    default: '5s',
  },
];

const SERVE_FLAGS: readonly Flag[] = [
  {
    name: 'stats-listen',
    letter: null,
    kind: 'one',
    group: 'Serve:',
    commands: ['serve'],
    describe: 'address:port where it tells its counts as JSON over HTTP, for --target-stats',
    default: null,
  },
  {
    name: 'host',
    letter: null,
    kind: 'one',
    group: 'Serve:',
    commands: ['serve'],
    describe: 'address to listen on',
    default: '127.0.0.1',
  },
  {
    name: 'port',
    letter: 'p',
    kind: 'one',
    group: 'Serve:',
    commands: ['serve'],
    describe: 'port to listen on; 0 takes a free one',
    default: '8000',
  },
  {
    name: 'mode',
    letter: null,
    kind: 'one',
    group: 'Serve:',
    commands: ['serve'],
    describe:
      'hold: accept and stay silent; echo: send back what comes; whoami: say once which address it came from',
    default: 'hold',
    choices: ['hold', 'echo', 'whoami'],
  },
  {
    name: 'workers',
    letter: null,
    kind: 'one',
    group: 'Serve:',
    commands: ['serve'],
    describe: 'worker processes; each holds as many connections as one process has descriptors',
    default: null,
    defaultNote: 'as many as 130,000 connections need',
  },
];

const ALL_FLAGS: readonly Flag[] = [
  ...TARGET_FLAGS,
  ...LOAD_FLAGS,
  ...SOURCE_FLAGS,
  ...PROOF_FLAGS,
  ...AGENT_FLAGS,
  ...SERVE_FLAGS,
  ...JOIN_FLAGS,
  ...KUBERNETES_FLAGS,
  ...CLEANUP_FLAGS,
  ...PATH_FLAGS,
  ...OUTPUT_FLAGS,
];

/** Every flag of every command, in the order of the help. */
export const FLAGS: readonly Flag[] = ALL_FLAGS.map(withPods);

/** The environment variable that stands for a flag: `C100K_CONNECT_TIMEOUT` for `--connect-timeout`. */
export function environmentName(flag: Flag): string {
  return `C100K_${flag.name.toUpperCase().replaceAll('-', '_')}`;
}

/** The flags that a command takes, in the order of the help. */
export function flagsOf(command: CommandName): readonly Flag[] {
  return FLAGS.filter((flag) => flag.commands.includes(command));
}
