/**
 * Owns the rows of who takes part (agents as the coordinator asks for them, and as they join), of the other commands, and of
 * what is shown and written. Must never read a value (flags.ts).
 */

import { DURATION_MS_MAX } from '../../base/units.ts';
import { HOLDERS_MAX } from '../../plan/cost.ts';
import { WORKERS_MAX } from '../../serve/worker-count.ts';
import { type CommandName, flagSwitch, list, one } from './flag.ts';
import {
  agentKinds,
  agentName,
  allowedDevice,
  allowedSource,
  allowedTarget,
  choice,
  coordinatorAddress,
  count,
  duration,
  file,
  firstAddress,
  hops,
  image,
  label,
  listenAddress,
  listenPort,
  portRanges,
  quantity,
  rate,
  sshHosts,
  statsAddress,
  text,
} from './value-types.ts';

const RUN: readonly CommandName[] = ['run', 'plan'];
const RUN_ONLY: readonly CommandName[] = ['run'];
/** What describes a host, wherever its agent runs. */
const HOSTS: readonly CommandName[] = ['run', 'plan', 'agent'];
const SAMPLES_MAX = 10_000;
const DAY_MS = 86_400_000;
/** Waiting for others is a week at most: what takes longer is not waited for by a process. */
const WAIT_MS_MAX = 7 * DAY_MS;
const AGENTS_MAX = 10_000;
/** Leaves room for what Kubernetes adds: a DNS label has 63 characters. */
const NAME_CHARS_MAX = 40;

/** Part of the table (flags.ts). */
export const SERVE_FLAGS = {
  'stats-listen': one({
    ...statsAddress,
    group: 'Serve:',
    commands: ['serve'],
    describe: 'address:port where it tells its counts as JSON over HTTP, for --target-stats',
  }),
  host: one({
    ...text('ADDRESS'),
    group: 'Serve:',
    commands: ['serve'],
    describe: 'address to listen on',
    default: '127.0.0.1',
  }),
  port: one({
    ...listenPort,
    letter: 'p',
    group: 'Serve:',
    commands: ['serve'],
    describe: 'port to listen on; 0 takes a free one',
    default: '8000',
  }),
  mode: one({
    ...choice('hold', 'echo', 'whoami'),
    group: 'Serve:',
    commands: ['serve'],
    describe:
      'hold: accept and stay silent; echo: send back what comes; whoami: say once which address it came from',
    default: 'hold',
  }),
  workers: one({
    ...count(1, WORKERS_MAX),
    group: 'Serve:',
    commands: ['serve'],
    describe: 'worker processes; with epoll each holds as many connections as one process has descriptors',
    defaultNote: 'as many as 130,000 connections need',
  }),
};

/** Part of the table (flags.ts): of `k8s` alone; what it takes of a run or an agent is said by their rows. */
export const KUBERNETES_FLAGS = {
  image: one({
    ...image,
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'image of this program, as docs/deploy/Dockerfile makes it',
    required: true,
  }),
  namespace: one({
    ...label(63),
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'namespace of all objects',
    defaultNote: 'the one that kubectl uses',
  }),
  'run-name': one({
    ...label(NAME_CHARS_MAX),
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'what the names of all objects begin with',
    default: 'c100k-bench',
  }),
  'net-admin': flagSwitch({
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'agents may add addresses and routes in their pods (NET_ADMIN, and root in the container)',
  }),
  spread: one({
    ...choice('required', 'preferred', 'off'),
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'one agent a node: always, where nodes suffice, or wherever the scheduler likes',
    default: 'preferred',
  }),
  cpu: one({
    ...quantity,
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'CPU that each agent requests, such as 500m or 2',
    default: '1',
  }),
  memory: one({
    ...quantity,
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'memory of each agent, requested and at most, such as 2Gi; sockets of the kernel count too',
    default: '1Gi',
  }),
  'wait-pods': one({
    ...duration(1_000, WAIT_MS_MAX),
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'how long pods may take to start, image pulls included',
    default: '5m',
  }),
};

/** Part of the table (flags.ts). */
export const OTHER_FLAGS = {
  force: flagSwitch({
    group: 'Init:',
    commands: ['init'],
    describe: 'write over a file that is there',
  }),
  schema: flagSwitch({
    group: 'Init:',
    commands: ['init'],
    describe: 'print the JSON Schema of run files instead',
  }),
  'dry-run': flagSwitch({
    group: 'Cleanup:',
    commands: ['cleanup'],
    describe: 'only say what would be removed',
  }),
  via: list({
    ...hops,
    group: 'Path:',
    commands: ['plan'],
    describe:
      'a hop between us and the server: masquerade:1, snat:<addresses>, haproxy:<sources>x<endpoints>, dnat, direct; repeatable',
  }),
  'via-ports': one({
    ...portRanges,
    group: 'Path:',
    commands: ['plan', 'path'],
    describe: 'ports that each address of the hop has, such as 32768-60999',
    defaultNote: '1024-65535 for NAT, 32768-60999 for HAProxy',
  }),
  'via-source': one({
    ...firstAddress,
    group: 'Path:',
    commands: ['plan'],
    describe: 'first address of the hop towards the server, for the lines to copy',
    default: '192.168.0.102/24',
  }),
  'via-server': one({
    ...text('ADDRESS:PORT'),
    group: 'Path:',
    commands: ['plan'],
    describe: 'address:port of the server as the hop sees it, for the lines to copy',
    default: '192.168.0.101:8000',
  }),
  samples: one({
    ...count(1, SAMPLES_MAX),
    group: 'Path:',
    commands: ['path'],
    describe: 'connections that are opened to look at the path',
    default: '300',
  }),
  'find-idle-timeout': flagSwitch({
    group: 'Path:',
    commands: ['path'],
    describe: 'find after how long the path forgets an idle connection; the target must echo',
  }),
  'idle-max': one({
    ...duration(1_000, DAY_MS),
    group: 'Path:',
    commands: ['path'],
    describe: 'the longest idle time that is tried',
    default: '10m',
  }),
  events: one({
    ...file,
    group: 'Output:',
    commands: RUN_ONLY,
    describe: 'write every loss to this file, one JSON object a line',
    pods: { why: 'a file has no place in a pod' },
  }),
  junit: one({
    ...file,
    group: 'Output:',
    commands: RUN_ONLY,
    describe: 'write JUnit XML to this file: a test case for each requirement',
    pods: { why: 'a file has no place in a pod' },
    isOutput: true,
  }),
  prometheus: one({
    ...file,
    group: 'Output:',
    commands: RUN_ONLY,
    describe: 'write a text file for the collector of a node exporter',
    pods: { why: 'a file has no place in a pod' },
    isOutput: true,
  }),
  json: one({
    ...file,
    group: 'Output:',
    commands: ['run', 'plan', 'path', 'compare'],
    describe: 'write the result as JSON to this file; - writes it to stdout and the text to stderr',
    pods: { why: 'a file has no place in a pod' },
    isOutput: true,
  }),
  quiet: flagSwitch({
    letter: 'q',
    group: 'Output:',
    commands: ['run', 'plan', 'path', 'serve', 'report', 'compare'],
    describe: 'nothing on stderr but errors',
    pods: { why: 'the log of the coordinator is all that remains of a run' },
    isOutput: true,
  }),
  verbose: flagSwitch({
    letter: 'v',
    group: 'Output:',
    commands: RUN,
    describe: 'also say what is assumed for the flags that were not given',
    pods: 'argument',
    isOutput: true,
  }),
  'no-progress': flagSwitch({
    group: 'Output:',
    commands: RUN_ONLY,
    describe: 'no live view and no periodic lines, only each change of phase',
    pods: 'argument',
    isOutput: true,
  }),
  'progress-every': one({
    ...duration(100, DAY_MS),
    group: 'Output:',
    commands: RUN_ONLY,
    describe: 'time between progress lines when stderr is not a terminal',
    default: '5s',
    pods: 'argument',
    isOutput: true,
  }),
};

/** Part of the table (flags.ts). */
export const AGENTS_FLAGS = {
  holders: one({
    ...count(1, HOLDERS_MAX),
    group: 'Agents:',
    commands: HOSTS,
    describe: 'holder processes on this host',
    defaultNote: 'as many as descriptors and cores ask for',
    pods: 'argument',
  }),
  engine: one({
    ...choice('auto', 'uring', 'epoll'),
    group: 'Agents:',
    commands: [...HOSTS, 'serve'],
    describe: 'how sockets are driven on this host; auto: io_uring where it works, otherwise epoll',
    defaultNote: 'auto',
    pods: 'argument',
  }),
  agents: one({
    ...agentKinds,
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'who takes a quota: local, remote, or local,remote',
    defaultNote: 'remote when agents are expected, otherwise local',
    pods: { why: 'the agents are the pods of the second Job' },
  }),
  'expect-agents': one({
    ...count(1, AGENTS_MAX),
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'how many agents will join from elsewhere',
    pods: 'manifest',
  }),
  listen: one({
    ...listenAddress,
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'address:port where agents join',
    defaultNote: '127.0.0.1 and a free port; 0.0.0.0 with --ssh',
    pods: { why: 'the manifests say where the coordinator listens, and the Service its name' },
  }),
  'wait-agents': one({
    ...duration(1, WAIT_MS_MAX),
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'how long to wait for them',
    default: '60s',
    pods: { why: '--wait-pods says it for both sides' },
  }),
  'on-agent-loss': one({
    ...choice('fail', 'continue', 'replace'),
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'a lost agent ends the run, is gone without, or its quota goes to others after its lease',
    default: 'continue',
    pods: 'argument',
  }),
  ssh: list({
    ...sshHosts,
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'start an agent on user@host through ssh; a comma list, or repeated',
    pods: { why: 'pods are started by the cluster' },
  }),
  'ssh-command': one({
    ...text('COMMAND'),
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'what to run there',
    default: 'c100k-bench',
    pods: { why: 'pods are started by the cluster' },
  }),
  'ssh-option': list({
    ...text('OPTION'),
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'further arguments of ssh; with = because they begin with a dash: --ssh-option="-p 2222"',
    pods: { why: 'pods are started by the cluster' },
  }),
  advertise: one({
    ...text('HOST:PORT'),
    group: 'Agents:',
    commands: RUN_ONLY,
    describe: 'host:port under which agents reach this coordinator',
    defaultNote: 'an address of this host',
    pods: { why: 'agents join through the Service' },
  }),
};

/** Part of the table (flags.ts). */
export const JOIN_FLAGS = {
  join: one({
    ...coordinatorAddress,
    group: 'Agent:',
    commands: ['agent'],
    describe: 'host:port of the coordinator',
    required: true,
    pods: { why: 'the manifests say it' },
  }),
  'token-file': one({
    ...file,
    group: 'Agent:',
    commands: ['run', 'agent', 'token'],
    describe: 'file that holds the token; a run or token command makes it (mode 0600) when it is not there',
    defaultNote: 'C100K_TOKEN; a run without either makes a token for itself',
    pods: 'manifest',
  }),
  name: one({
    ...agentName,
    group: 'Agent:',
    commands: ['agent', 'token', 'run'],
    describe: 'what the run calls this agent; of a run: what its reports and metrics call it',
    defaultNote: 'the name in the token, or the host name; a run has none',
    pods: { why: 'the number of the agent is its name' },
  }),
  'token-stdin': flagSwitch({
    group: 'Agent:',
    commands: ['agent'],
    describe: 'the token is the first line of stdin; the end of stdin stops the agent',
    pods: { why: 'the token comes from the Secret' },
  }),
  expires: one({
    ...duration(1_000, 10 * DURATION_MS_MAX),
    group: 'Agent:',
    commands: ['token'],
    describe: 'how long the token is good for, such as 24h',
    defaultNote: 'for ever',
  }),
  'allow-target': list({
    ...allowedTarget,
    group: 'Agent:',
    commands: ['agent', 'token'],
    describe: 'CIDR:ports that this agent may connect to; repeatable',
    defaultNote: 'private and loopback addresses',
    pods: 'argument',
  }),
  'allow-source': list({
    ...allowedSource,
    group: 'Agent:',
    commands: ['agent'],
    describe: 'CIDR that this agent may connect from, whatever target a run names; repeatable',
    defaultNote: 'what the route to the target asks for',
    pods: 'argument',
  }),
  'allow-alias-dev': list({
    ...allowedDevice,
    group: 'Agent:',
    commands: ['agent'],
    describe: 'device that --alias-dev auto may add addresses to; repeatable',
    defaultNote: 'the one towards the target',
    pods: 'argument',
  }),
  'max-conns': one({
    ...count(1, Number.MAX_SAFE_INTEGER),
    group: 'Agent:',
    commands: ['agent'],
    describe: 'connections at most, whatever the coordinator says',
    pods: 'argument',
  }),
  'max-rate': one({
    ...rate,
    group: 'Agent:',
    commands: ['agent'],
    describe: 'connects per second at most',
    pods: 'argument',
  }),
  'max-duration': one({
    ...duration(1, DURATION_MS_MAX),
    group: 'Agent:',
    commands: ['agent'],
    describe: 'from the start until everything is closed, at most',
    pods: 'argument',
  }),
  stay: flagSwitch({
    group: 'Agent:',
    commands: ['agent'],
    describe: 'serve one run after the other instead of one',
    pods: { why: 'a Job serves one run' },
  }),
  'wait-coordinator': one({
    ...duration(0, WAIT_MS_MAX),
    group: 'Agent:',
    commands: ['agent'],
    describe: 'how long to try to reach the coordinator',
    default: '60s',
    pods: { why: '--wait-pods says it for both sides' },
  }),
  'partial-report': one({
    ...file,
    group: 'Agent:',
    commands: ['agent'],
    describe: 'where the last stats go when the coordinator is lost',
    defaultNote: 'c100k-bench-NAME-partial.json in the temporary folder',
    pods: { why: 'a file has no place in a pod' },
  }),
};
