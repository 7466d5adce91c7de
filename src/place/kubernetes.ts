/**
 * Owns a run on Kubernetes: one Secret, one headless Service, one Job for the coordinator, one Indexed Job for the agents,
 * as plain objects and as the YAML documents that `kubectl apply -f -` reads. The only file that imports yaml.
 * Must never make a token, and never put one into an argument or an environment variable.
 */
import { Document, isScalar, visit } from 'yaml';

/** How hard the scheduler tries to give each agent a node of its own. */
type Spread = 'required' | 'preferred' | 'off';

export interface KubernetesRun {
  /** prefix of every object's name; a DNS label of at most 40 characters */
  readonly name: string;
  /** null: the one that kubectl uses */
  readonly namespace: string | null;
  readonly image: string;
  /** the token's text */
  readonly token: string;
  /** certificates to trust, PEM; null: those that Node brings along */
  readonly ca: string | null;
  readonly agents: number;
  /** flags of the run, as a command line has them; without those that say where agents join */
  readonly runArguments: readonly string[];
  /** flags of each agent, the same way; `$(JOB_COMPLETION_INDEX)` becomes the agent's number in its pod */
  readonly agentArguments: readonly string[];
  /** how long pods may take to start, as a command line has it */
  readonly waitPods: string;
  /** aliases and local routes need it, and then root in the container */
  readonly hasNetAdmin: boolean;
  readonly spread: Spread;
  /** per agent, as Kubernetes quantities */
  readonly cpu: string;
  readonly memory: string;
}

/** One object for `kubectl apply`. */
type Manifest = Readonly<Record<string, unknown>>;

const CONTROL_PORT = 7_100;
/** The number of an agent, 0 to agents - 1; the Job controller writes it on each pod. */
export const INDEX_VARIABLE = 'JOB_COMPLETION_INDEX';
const INDEX_ANNOTATION = 'batch.kubernetes.io/job-completion-index';

const TOKEN_FOLDER = '/run/secrets/c100k-bench';
/** The key of the certificates in the Secret, and the name of their file. */
const AUTHORITY_KEY = 'ca.pem';
const TOKEN_PATH = `${TOKEN_FOLDER}/token`;
const TOKEN_FILE_MODE = 0o400;
/** The user `node` of the official images, which docs/deploy/Dockerfile switches to. */
const USER_ID = 1_000;
/** The coordinator closes agents in order, which may take a minute. */
const COORDINATOR_GRACE_SEC = 90;
const AGENT_GRACE_SEC = 30;
/** Room for an agent's last stats when the coordinator is lost; the rest of the file system is read-only. */
const TEMPORARY_SIZE = '64Mi';
const COORDINATOR_RESOURCES = {
  requests: { cpu: '500m', memory: '256Mi' },
  limits: { memory: '1Gi' },
};

type Role = 'coordinator' | 'agent';

function labelsOf(run: KubernetesRun, role: Role): Record<string, string> {
  return {
    'app.kubernetes.io/name': 'c100k-bench',
    'app.kubernetes.io/instance': run.name,
    'app.kubernetes.io/component': role,
  };
}

function metadataOf(run: KubernetesRun, suffix: string, role: Role): Manifest {
  return {
    name: `${run.name}-${suffix}`,
    ...(run.namespace === null ? {} : { namespace: run.namespace }),
    labels: labelsOf(run, role),
  };
}

/**
 * Everything that a run needs, in the order in which it is applied.
 * @param run checked values
 */
export function kubernetesManifests(run: KubernetesRun): readonly Manifest[] {
  return [tokenSecret(run), coordinatorService(run), coordinatorJob(run), agentsJob(run)];
}

function tokenSecret(run: KubernetesRun): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: metadataOf(run, 'token', 'coordinator'),
    type: 'Opaque',
    stringData: { token: `${run.token}\n`, ...(run.ca === null ? {} : { [AUTHORITY_KEY]: run.ca }) },
  };
}

/** Headless: its name is the coordinator's own address, and no proxy stands between it and the agents. */
function coordinatorService(run: KubernetesRun): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadataOf(run, 'coordinator', 'coordinator'),
    spec: {
      clusterIP: 'None',
      // Agents look the name up while the coordinator starts.
      publishNotReadyAddresses: true,
      selector: labelsOf(run, 'coordinator'),
      ports: [{ name: 'control', protocol: 'TCP', port: CONTROL_PORT, targetPort: CONTROL_PORT }],
    },
  };
}

function coordinatorJob(run: KubernetesRun): Manifest {
  const args = [
    ...run.runArguments,
    `--expect-agents=${run.agents}`,
    `--wait-agents=${run.waitPods}`,
    `--listen=0.0.0.0:${CONTROL_PORT}`,
    `--token-file=${TOKEN_PATH}`,
    ...(run.ca === null ? [] : [`--tls-ca=${TOKEN_FOLDER}/${AUTHORITY_KEY}`]),
  ];
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: metadataOf(run, 'coordinator', 'coordinator'),
    spec: {
      // A run that failed has a verdict; running it once more would hide it.
      backoffLimit: 0,
      template: {
        metadata: { labels: labelsOf(run, 'coordinator') },
        spec: podOf(run, COORDINATOR_GRACE_SEC, false, {
          name: 'coordinator',
          args,
          ports: [{ name: 'control', containerPort: CONTROL_PORT }],
          resources: COORDINATOR_RESOURCES,
        }),
      },
    },
  };
}

function agentsJob(run: KubernetesRun): Manifest {
  const args = [
    'agent',
    `--join=${run.name}-coordinator:${CONTROL_PORT}`,
    `--token-file=${TOKEN_PATH}`,
    `--wait-coordinator=${run.waitPods}`,
    ...run.agentArguments,
  ];
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: metadataOf(run, 'agent', 'agent'),
    spec: {
      completions: run.agents,
      parallelism: run.agents,
      completionMode: 'Indexed',
      // No agent is started again, and one that is lost does not take the others with it, as backoffLimit 0 would:
      // what a loss means is for --on-agent-loss to say.
      backoffLimitPerIndex: 0,
      maxFailedIndexes: run.agents,
      template: {
        metadata: { labels: labelsOf(run, 'agent') },
        spec: {
          ...podOf(run, AGENT_GRACE_SEC, run.hasNetAdmin, {
            name: 'agent',
            args,
            env: [
              {
                name: INDEX_VARIABLE,
                valueFrom: { fieldRef: { fieldPath: `metadata.annotations['${INDEX_ANNOTATION}']` } },
              },
              { name: 'C100K_NAME', value: `agent-$(${INDEX_VARIABLE})` },
            ],
            resources: { requests: { cpu: run.cpu, memory: run.memory }, limits: { memory: run.memory } },
          }),
          ...affinityOf(run),
        },
      },
    },
  };
}

function podOf(run: KubernetesRun, graceSec: number, hasNetAdmin: boolean, container: Manifest): Manifest {
  return {
    restartPolicy: 'Never',
    terminationGracePeriodSeconds: graceSec,
    automountServiceAccountToken: false,
    // Variables that begin with C100K_ are flags of the program.
    enableServiceLinks: false,
    securityContext: {
      ...(hasNetAdmin
        ? { runAsUser: 0, runAsGroup: 0 }
        : { runAsNonRoot: true, runAsUser: USER_ID, runAsGroup: USER_ID, fsGroup: USER_ID }),
      seccompProfile: { type: 'RuntimeDefault' },
    },
    containers: [
      {
        ...container,
        image: run.image,
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'], ...(hasNetAdmin ? { add: ['NET_ADMIN', 'NET_RAW'] } : {}) },
        },
        volumeMounts: [
          { name: 'token', mountPath: TOKEN_FOLDER, readOnly: true },
          { name: 'temporary', mountPath: '/tmp' },
          ...(hasNetAdmin ? [{ name: 'temporary', mountPath: '/run/c100k-bench', subPath: 'aliases' }] : []),
        ],
      },
    ],
    volumes: [
      { name: 'token', secret: { secretName: `${run.name}-token`, defaultMode: TOKEN_FILE_MODE } },
      { name: 'temporary', emptyDir: { sizeLimit: TEMPORARY_SIZE } },
    ],
  };
}

/** Keeps agents off each other's nodes: two on one node share its ports towards the target when the node translates. */
function affinityOf(run: KubernetesRun): Manifest {
  if (run.spread === 'off') return {};
  const term = {
    topologyKey: 'kubernetes.io/hostname',
    labelSelector: { matchLabels: labelsOf(run, 'agent') },
  };
  return {
    affinity: {
      podAntiAffinity:
        run.spread === 'required'
          ? { requiredDuringSchedulingIgnoredDuringExecution: [term] }
          : { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: term }] },
    },
  };
}

/**
 * One YAML document per manifest.
 * @param heading lines of a comment above the first one
 * @returns text that ends in a line break
 */
export function manifestYaml(manifests: readonly Manifest[], heading: readonly string[]): string {
  const documents = manifests.map(documentText);
  return `${heading.map((line) => `# ${line}`.trimEnd()).join('\n')}\n---\n${documents.join('---\n')}`;
}

function documentText(manifest: Manifest): string {
  // kubectl reads YAML 1.1, where `on`, `1_000` and `12:30` are no strings: they are quoted then.
  const document = new Document(manifest, { aliasDuplicateObjects: false, version: '1.1' });
  visit(document, {
    Pair: (_key, { key, value }) => {
      // A mode is for people, but 0400 is octal in YAML 1.1 and four hundred in 1.2; decimal is the same in both.
      if (isScalar(key) && isScalar(value) && key.value === 'defaultMode') {
        value.comment = ` 0${Number(value.value).toString(8)}`;
      }
    },
  });
  return document.toString({ lineWidth: 0 });
}
