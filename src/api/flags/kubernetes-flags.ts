/**
 * Owns the flags of `c100k-bench k8s`: its own, and which flags of a run or an agent it carries into the pods.
 * Must never parse a value (k8s-command.ts).
 */
import type { Flag } from './flag.ts';

/** The flags of `k8s` alone. */
export const KUBERNETES_FLAGS: readonly Flag[] = [
  {
    name: 'image',
    letter: null,
    kind: 'one',
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'image of this program, as docs/deploy/Dockerfile makes it',
    default: null,
    required: true,
  },
  {
    name: 'namespace',
    letter: null,
    kind: 'one',
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'namespace of all objects',
    default: null,
    defaultNote: 'the one that kubectl uses',
  },
  {
    name: 'run-name',
    letter: null,
    kind: 'one',
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'what the names of all objects begin with',
    default: 'c100k-bench',
  },
  {
    name: 'net-admin',
    letter: null,
    kind: 'switch',
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'agents may add addresses and routes in their pods (NET_ADMIN, and root in the container)',
    default: null,
  },
  {
    name: 'spread',
    letter: null,
    kind: 'one',
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'one agent a node: always, where nodes suffice, or wherever the scheduler likes',
    default: 'preferred',
    choices: ['required', 'preferred', 'off'],
  },
  {
    name: 'cpu',
    letter: null,
    kind: 'one',
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'CPU that each agent requests, such as 500m or 2',
    default: '1',
  },
  {
    name: 'memory',
    letter: null,
    kind: 'one',
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'memory of each agent, requested and at most, such as 2Gi; sockets of the kernel count too',
    default: '1Gi',
  },
  {
    name: 'wait-pods',
    letter: null,
    kind: 'one',
    group: 'Kubernetes:',
    commands: ['k8s'],
    describe: 'how long pods may take to start, image pulls included',
    default: '5m',
  },
];

/** Flags of a run, or of an agent, that `k8s` takes and writes into the command lines of the pods. */
const CARRIED_INTO_PODS: ReadonlySet<string> = new Set([
  ...['target', 'conns', 'rate', 'duration', 'connect-timeout', 'max-pending', 'close'],
  ...['source-ip', 'source-ports', 'source-prefix', 'alias-dev', 'alias-lease'],
  ...['probe', 'probe-every', 'probe-timeout', 'require', 'abort-early', 'on-drop', 'target-stats'],
  ...['expect-banner', 'ws-message', 'http-status', 'host-header'],
  ...['tls-servername', 'tls-ca', 'insecure', 'verbose', 'no-progress'],
  ...['expect-agents', 'on-agent-loss', 'holders', 'token-file'],
  ...[
    'allow-target',
    'allow-source',
    'allow-alias-dev',
    'max-conns',
    'max-rate',
    'max-duration',
    'progress-every',
  ],
]);

/** Why `k8s` has no use for the other flags of a run or of an agent. */
export const NOT_IN_PODS: Readonly<Record<string, string>> = {
  agents: 'the agents are the pods of the second Job',
  listen: 'the manifests say where the coordinator listens, and the Service its name',
  advertise: 'agents join through the Service',
  'wait-agents': '--wait-pods says it for both sides',
  'wait-coordinator': '--wait-pods says it for both sides',
  ssh: 'pods are started by the cluster',
  'ssh-command': 'pods are started by the cluster',
  'ssh-option': 'pods are started by the cluster',
  join: 'the manifests say it',
  name: 'the number of the agent is its name',
  'token-stdin': 'the token comes from the Secret',
  stay: 'a Job serves one run',
  'partial-report': 'a file has no place in a pod',
  events: 'a file has no place in a pod',
  junit: 'a file has no place in a pod',
  prometheus: 'a file has no place in a pod',
  json: 'a file has no place in a pod',
  quiet: 'the log of the coordinator is all that remains of a run',
};

/** A flag of a run or an agent, with `k8s` among its commands where the pods' command lines carry it. */
export function withPods(flag: Flag): Flag {
  return CARRIED_INTO_PODS.has(flag.name) ? { ...flag, commands: [...flag.commands, 'k8s'] } : flag;
}
