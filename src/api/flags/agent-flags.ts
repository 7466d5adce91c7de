/**
 * Owns the rows of who takes part: agents as the coordinator asks for them, and as they join.
 * Must never read a value (flags.ts).
 */
import { DURATION_MS_MAX } from '../../base/units.ts';
import { HOLDERS_MAX } from '../../plan/cost.ts';
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
  listenAddress,
  rate,
  sshHosts,
  text,
} from './value-types.ts';

const RUN_ONLY: readonly CommandName[] = ['run'];
/** What describes a host, wherever its agent runs. */
const HOSTS: readonly CommandName[] = ['run', 'plan', 'agent'];
const AGENTS_MAX = 10_000;
/** Waiting for others is a week at most: what takes longer is not waited for by a process. */
const WAIT_MS_MAX = 7 * 86_400_000;

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
    commands: HOSTS,
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
    commands: ['agent', 'token'],
    describe: 'what the run calls this agent',
    defaultNote: 'the name in the token, or the host name',
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
