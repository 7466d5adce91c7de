/** The manifests as `kubectl` reads them: the text is parsed again as YAML 1.1. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { type KubernetesRun, kubernetesManifests, manifestYaml } from '../../src/place/kubernetes.ts';

const TOKEN = 'c100k-token-of-this-test';
const RUN: KubernetesRun = {
  ...{
    name: 'soak',
    namespace: null,
    image: 'registry.example/c100k-bench:1',
    token: TOKEN,
    ca: null,
    agents: 3,
  },
  runArguments: ['--target=10.0.0.5:8000', '--conns=130000'],
  agentArguments: ['--max-conns=50000'],
  ...{ waitPods: '5m', hasNetAdmin: false, spread: 'preferred', cpu: '1', memory: '512Mi' },
};

interface Pod {
  readonly containers: readonly { readonly args: readonly string[]; readonly securityContext: unknown }[];
  readonly securityContext: { readonly runAsUser: number };
  readonly affinity?: { readonly podAntiAffinity: Readonly<Record<string, unknown>> };
}
interface Parsed {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly stringData?: Readonly<Record<string, string>>;
  readonly spec?: Readonly<Record<string, unknown>> & { readonly template?: { readonly spec: Pod } };
}

function parsed(change: Partial<KubernetesRun> = {}): { text: string; objects: Parsed[] } {
  const text = manifestYaml(kubernetesManifests({ ...RUN, ...change }), ['A heading', 'of two lines']);
  const documents = parseAllDocuments(text, { version: '1.1' });
  assert(Array.isArray(documents));
  return {
    text,
    objects: documents.map((document) => document.toJS() as Parsed).filter((one) => one !== null),
  };
}

function podOf({ objects }: { objects: readonly Parsed[] }, name: string): Pod {
  const pod = objects.find((one) => one.kind === 'Job' && one.metadata.name === name)?.spec?.template?.spec;
  assert(pod !== undefined, name);
  return pod;
}

test('a Secret, a Service and two Jobs, under the name of the run and in its namespace', () => {
  const kinds = parsed({ namespace: 'load' }).objects.map(
    ({ kind, metadata }) => `${kind} ${metadata.name} ${metadata.namespace}`,
  );
  assert.deepEqual(kinds.sort(), [
    'Job soak-agent load',
    'Job soak-coordinator load',
    'Secret soak-token load',
    'Service soak-coordinator load',
  ]);
  assert.match(parsed().text, /^# A heading\n# of two lines\n---\n/);
});

test('the token is in the Secret and nowhere else', () => {
  const { text, objects } = parsed();
  assert.equal(text.split(TOKEN).length - 1, 1);
  assert.deepEqual(objects.find(({ kind }) => kind === 'Secret')?.stringData, { token: `${TOKEN}\n` });
});

test('an agent for each completion, none started again; each side gets its own flags', () => {
  const all = parsed();
  const job = all.objects.find(({ metadata, kind }) => kind === 'Job' && metadata.name === 'soak-agent');
  const { completions, parallelism, completionMode, backoffLimitPerIndex } = job?.spec ?? {};
  assert.deepEqual(
    { completions, parallelism, completionMode, backoffLimitPerIndex },
    { completions: 3, parallelism: 3, completionMode: 'Indexed', backoffLimitPerIndex: 0 },
  );
  const agent = podOf(all, 'soak-agent').containers[0]?.args ?? [];
  assert(agent.includes('agent') && agent.includes('--max-conns=50000') && !agent.includes('--conns=130000'));
  const coordinator = podOf(all, 'soak-coordinator').containers[0]?.args ?? [];
  assert(coordinator.includes('--conns=130000') && coordinator.includes('--expect-agents=3'));
  assert(!coordinator.includes('--max-conns=50000'));
});

test('only agents that add addresses are root with NET_ADMIN, never the coordinator', () => {
  const plain = podOf(parsed(), 'soak-agent');
  assert.equal(plain.securityContext.runAsUser, 1_000);
  assert.doesNotMatch(JSON.stringify(plain), /NET_ADMIN/);
  const all = parsed({ hasNetAdmin: true });
  const admin = podOf(all, 'soak-agent');
  assert.equal(admin.securityContext.runAsUser, 0);
  assert.match(JSON.stringify(admin.containers[0]?.securityContext), /"add":\["NET_ADMIN","NET_RAW"\]/);
  assert.equal(podOf(all, 'soak-coordinator').securityContext.runAsUser, 1_000);
});

test('agents are kept apart as asked: required, preferred, or not at all', () => {
  const keysOf = (spread: KubernetesRun['spread']): string[] =>
    Object.keys(podOf(parsed({ spread }), 'soak-agent').affinity?.podAntiAffinity ?? {});
  assert.deepEqual(keysOf('required'), ['requiredDuringSchedulingIgnoredDuringExecution']);
  assert.deepEqual(keysOf('preferred'), ['preferredDuringSchedulingIgnoredDuringExecution']);
  assert.deepEqual(keysOf('off'), []);
});
