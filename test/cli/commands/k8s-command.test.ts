import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { readAgents } from '../../../src/api/agents-request.ts';
import { FLAGS, type FlagValues } from '../../../src/api/flags/flags.ts';
import { readKubernetesRun } from '../../../src/api/kubernetes-request.ts';
import { readRunRequest } from '../../../src/api/run-request.ts';
import { BenchError, ExitCode } from '../../../src/base/errors.ts';
import { parseCommandLine } from '../../../src/cli/command-line.ts';
import { formatToken, generateToken, parseToken } from '../../../src/control/token.ts';
import { kubernetesManifests, manifestYaml } from '../../../src/place/kubernetes.ts';
import { kubernetesProblems } from '../../support/kubernetes-check.ts';
import { runCli } from '../../support/run-cli.ts';

const IMAGE = 'registry.example/c100k-bench:1';
const BASIC = ['--target', 'my-server:8000', '--conns', '100k', '--expect-agents', '5', '--image', IMAGE];
const RICH = [
  ...['-t', 'echo://10.0.0.1:8000-8003', '-c', '1m', '-r', '5k/s', '-d', '1h30m', '--max-pending', '2000'],
  ...['--connect-timeout', '20s', '--close', 'fin', '--probe-every', '30s', '--on-agent-loss', 'replace'],
  ...['--expect-agents', '20', '--holders', '4', '--source-ports', '1024-32767', '--net-admin'],
  ...['--source-prefix', 'fd00:$(JOB_COMPLETION_INDEX)::/112', '--max-conns', '60k', '--max-rate', '1k/s'],
  ...['--allow-target', '10.0.0.0/8:8000-8003', '--allow-target', '192.168.0.0/16'],
  ...['--image', IMAGE, '--namespace', 'on', '--run-name', 'night-1', '--spread', 'required'],
  ...['--cpu', '500m', '--memory', '2Gi', '--wait-pods', '10m'],
];

type Anything = Record<string, unknown>;
interface Pod {
  readonly containers: readonly { args: string[]; env?: Anything[]; securityContext: Anything }[];
  readonly securityContext: Anything;
  readonly affinity?: { readonly podAntiAffinity: object };
}
interface Job {
  readonly spec: { readonly template: { readonly spec: Pod } };
}

async function valuesOf(args: readonly string[]): Promise<FlagValues> {
  const parsed = await parseCommandLine(args, {}, '0.0.0', 80);
  assert(parsed.kind === 'command');
  return parsed.values;
}

async function manifestsOf(args: readonly string[]): Promise<readonly Anything[]> {
  return kubernetesManifests(readKubernetesRun(await valuesOf(['k8s', ...args])));
}

function podOf(manifests: readonly Anything[], component: 'coordinator' | 'agent'): Pod {
  const job = manifests.find((each) => {
    const { labels } = each.metadata as { labels: Anything };
    return each.kind === 'Job' && labels['app.kubernetes.io/component'] === component;
  });
  return (job as unknown as Job).spec.template.spec;
}

/** Reads YAML as kubectl does (1.1) and as all others do (1.2). */
function parseBoth(text: string): [unknown[], unknown[]] {
  const parse = (version: '1.1' | '1.2'): unknown[] =>
    parseAllDocuments(text, { version }).map((document) => {
      assert.deepEqual([...document.errors, ...document.warnings], []);
      return document.toJS();
    });
  return [parse('1.1'), parse('1.2')];
}

describe('the manifests of k8s', () => {
  for (const [name, args] of [
    ['the shortest command', BASIC],
    ['every flag', RICH],
    ['pods wherever the scheduler likes', [...BASIC, '--spread', 'off']],
  ] as const) {
    it(`are what the Kubernetes API takes: ${name}`, async () => {
      const manifests = await manifestsOf(args);
      assert.deepEqual(
        manifests.map(({ kind }) => kind),
        ['Secret', 'Service', 'Job', 'Job'],
      );
      for (const manifest of manifests) assert.deepEqual(kubernetesProblems(manifest), []);
    });
  }

  it('would not pass with a misspelt field, a wrong type or an unknown word: the check can fail', async () => {
    const coordinator = (await manifestsOf(BASIC))[2] as { spec: Anything };
    const { spec } = coordinator;
    const template = spec.template as { spec: Anything };
    const wrong = (change: Anything): Anything => ({ ...coordinator, spec: { ...spec, ...change } });
    const wrongPod = (change: Anything): Anything =>
      wrong({ template: { ...template, spec: { ...template.spec, ...change } } });
    assert.deepEqual(kubernetesProblems(wrong({})), []);
    assert.match(kubernetesProblems(wrong({ backofLimit: 0 })).join(), /spec\/backofLimit is not known/);
    assert.match(kubernetesProblems({ ...coordinator, speck: {} }).join(), /\/speck is not known/);
    assert.match(kubernetesProblems(wrong({ completions: '5' })).join(), /completions must be integer/);
    assert.match(
      kubernetesProblems(wrongPod({ restartPolicy: 'Nevr' })).join(),
      /restartPolicy must be equal/,
    );
    assert.match(
      kubernetesProblems(wrongPod({ containers: [{ image: IMAGE }] })).join(),
      /required property name/,
    );
    assert.match(kubernetesProblems({ apiVersion: 'v2', kind: 'Job' }).join(), /no model/);
  });

  it('read the same in YAML 1.1 and 1.2 as they were meant', async () => {
    const manifests = await manifestsOf(RICH);
    const text = manifestYaml(manifests, ['a heading']);
    const [old, now] = parseBoth(text);
    assert.deepEqual(old, manifests);
    assert.deepEqual(now, manifests);
    assert.match(text, /defaultMode: 256 # 0400/);
  });

  it('run command lines that our own parser accepts, and that mean what was typed', async () => {
    const manifests = await manifestsOf(RICH);
    const folder = mkdtempSync(join(tmpdir(), 'c100k-test-'));
    try {
      const secret = manifests[0] as { stringData: { token: string } };
      const tokenFile = join(folder, 'token');
      writeFileSync(tokenFile, secret.stringData.token, { mode: 0o400 });
      const inPod = (args: readonly string[]): string[] =>
        args.map((arg) =>
          arg.replace('/run/secrets/c100k-bench/token', tokenFile).replaceAll('$(JOB_COMPLETION_INDEX)', '7'),
        );
      const coordinator = await valuesOf(inPod(podOf(manifests, 'coordinator').containers[0]!.args));
      const typed = await valuesOf(RICH.slice(0, RICH.indexOf('--expect-agents')));
      const { sources, holders, ...spec } = readRunRequest(coordinator).spec;
      const { sources: _sources, holders: _holders, ...typedSpec } = readRunRequest(typed).spec;
      assert.deepEqual(spec, typedSpec);
      assert.deepEqual(sources.addresses, []);
      assert.equal(holders, null);
      const agents = readAgents(coordinator, '');
      assert.deepEqual(agents.listen, { host: '0.0.0.0', port: 7_100 });
      assert.equal(agents.remoteAgents, 20);
      assert.equal(agents.hasLocalAgent, false);
      assert.equal(agents.waitAgentsMs, 600_000);
      assert.equal(agents.onAgentLoss, 'replace');
      assert.equal(`${formatToken(agents.token)}\n`, secret.stringData.token);
      const agent = await valuesOf(inPod(podOf(manifests, 'agent').containers[0]!.args));
      assert.equal(agent.one('join'), 'night-1-coordinator:7100');
      assert.deepEqual(agent.list('source-prefix'), ['fd00:7::/112']);
      assert.deepEqual(agent.list('allow-target'), ['10.0.0.0/8:8000-8003', '192.168.0.0/16']);
      assert.equal(agent.one('holders'), '4');
      assert.equal(agent.one('max-conns'), '60k');
      assert.equal(agent.one('wait-coordinator'), '10m');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('give each agent a name of its own, and root only to those that change addresses', async () => {
    const plain = podOf(await manifestsOf(BASIC), 'agent');
    const rich = podOf(await manifestsOf(RICH), 'agent');
    assert.deepEqual(plain.containers[0]!.env?.[1], {
      name: 'C100K_NAME',
      value: 'agent-$(JOB_COMPLETION_INDEX)',
    });
    assert.equal(plain.securityContext.runAsNonRoot, true);
    assert.deepEqual(plain.containers[0]!.securityContext.capabilities, { drop: ['ALL'] });
    assert.equal(rich.securityContext.runAsUser, 0);
    assert.deepEqual(rich.containers[0]!.securityContext.capabilities, {
      drop: ['ALL'],
      add: ['NET_ADMIN', 'NET_RAW'],
    });
    const coordinator = podOf(await manifestsOf(RICH), 'coordinator');
    assert.equal(coordinator.securityContext.runAsNonRoot, true);
    assert.ok('preferredDuringSchedulingIgnoredDuringExecution' in (plain.affinity?.podAntiAffinity ?? {}));
    assert.ok('requiredDuringSchedulingIgnoredDuringExecution' in (rich.affinity?.podAntiAffinity ?? {}));
    assert.equal(podOf(await manifestsOf([...BASIC, '--spread', 'off']), 'agent').affinity, undefined);
  });
});

describe('c100k-bench k8s', () => {
  it('prints the token once, in the Secret, and makes a file for it that others cannot read', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'c100k-test-'));
    try {
      const path = join(folder, 'run.token');
      const first = await runCli(['k8s', ...BASIC, '--token-file', path]);
      assert.equal(first.code, 0, first.stderr);
      assert.equal(statSync(path).mode & 0o777, 0o600);
      const token = readFileSync(path, 'utf8').trim();
      const { key } = parseToken(token);
      assert.equal(first.stdout.split(token).length, 2);
      assert.equal(first.stdout.split(key.toString('base64url')).length, 2);
      assert.ok(!first.stderr.includes(key.toString('base64url')));
      const [secret, ...others] = parseBoth(first.stdout)[0];
      assert.equal((secret as { stringData: Anything }).stringData.token, `${token}\n`);
      assert.ok(!JSON.stringify(others).includes(key.toString('base64url')));
      const second = await runCli(['k8s', ...BASIC, '--token-file', path]);
      assert.equal(second.stdout, first.stdout);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('makes a fresh token each time without a file', async () => {
    const tokens = await Promise.all(
      [1, 2].map(async () => (await manifestsOf(BASIC))[0] as { stringData: { token: string } }),
    );
    assert.notEqual(tokens[0]!.stringData.token, tokens[1]!.stringData.token);
    assert.doesNotThrow(() => parseToken(tokens[0]!.stringData.token));
    assert.notEqual(formatToken(generateToken()), tokens[0]!.stringData.token.trim());
  });

  it('refuses what the pods would refuse, with one line and a hint', async () => {
    const without = (flag: string): string[] => BASIC.toSpliced(BASIC.indexOf(flag), 2);
    const wrong: readonly (readonly [readonly string[], RegExp])[] = [
      [without('--image'), /--image is missing/],
      [without('--expect-agents'), /--expect-agents is missing/],
      [without('--target'), /--target is missing/],
      [without('--conns'), /--conns is missing/],
      [[...without('--target'), '--target', 'self'], /--target self is the pod/],
      [[...without('--target'), '--target', '8.8.8.8:80'], /would refuse 8\.8\.8\.8:80/],
      [[...BASIC, '--namespace', 'Not_A_Name'], /not a name that Kubernetes takes/],
      [[...BASIC, '--run-name', 'a'.repeat(41)], /at most|not a name/],
      [[...BASIC, '--source-prefix', 'fd00::/112'], /NET_ADMIN/],
      [[...BASIC, '--memory', 'much'], /not a quantity/],
      [[...BASIC, '--max-conns', '-5'], /--max-conns/],
      [[...BASIC, '--allow-target', 'everything'], /everything|address/],
      [[...without('--image'), '--image', 'two words'], /not the name of an image/],
    ];
    for (const [args, message] of wrong) {
      const values = await valuesOf(['k8s', ...args]);
      assert.throws(
        () => readKubernetesRun(values),
        (error) =>
          error instanceof BenchError && error.exitCode === ExitCode.usage && message.test(error.message),
        args.join(' '),
      );
    }
    assert.ok(!existsSync('/run/secrets/c100k-bench/token'));
  });

  it('takes a public target when its owner allows it', async () => {
    const args = BASIC.with(BASIC.indexOf('--target') + 1, '8.8.8.8:80');
    const manifests = await manifestsOf([...args, '--allow-target', '8.8.8.8:80']);
    assert.ok(podOf(manifests, 'agent').containers[0]!.args.includes('--allow-target=8.8.8.8:80'));
  });
});

describe('the flags of a run and of an agent', () => {
  /** One value for each carried flag, with the target that takes it. */
  const SAMPLES: Readonly<Record<string, readonly [value: string | null, target?: string]>> = {
    rate: ['5k/s'],
    duration: ['1h'],
    'connect-timeout': ['20s'],
    'max-pending': ['2000'],
    close: ['fin'],
    'source-ip': ['10.0.0.$(JOB_COMPLETION_INDEX)'],
    'source-ports': ['1024-32767'],
    'source-prefix': ['fd00:$(JOB_COMPLETION_INDEX)::/112'],
    'alias-dev': ['eth0'],
    'alias-lease': ['90s'],
    probe: ['whoami'],
    'probe-every': ['30s', 'echo://my-server:8000'],
    'probe-timeout': ['20s', 'echo://my-server:8000'],
    require: ['held>=99%'],
    'abort-early': [null],
    engine: ['epoll'],
    'on-drop': ['reopen'],
    'target-stats': ['http://my-server:8001'],
    'expect-banner': ['SSH-2.0-'],
    'ws-message': ['hello there', 'ws://my-server'],
    'http-status': ['204', 'https://my-server'],
    'host-header': ['www.example', 'http://my-server'],
    'tls-servername': ['www.example', 'tls://my-server:8443'],
    insecure: [null, 'wss://my-server'],
    'on-agent-loss': ['replace'],
    holders: ['4'],
    'allow-target': ['10.0.0.0/8:8000'],
    'allow-source': ['10.0.0.0/8'],
    'allow-alias-dev': ['eth0'],
    'max-conns': ['60k'],
    'max-rate': ['1k/s'],
    'max-duration': ['2h'],
    'progress-every': ['30s'],
    verbose: [null],
    'no-progress': [null],
  };
  /** Shown to be carried by the tests above, or through the Secret. */
  const ELSEWHERE = ['target', 'conns', 'expect-agents', 'token-file', 'tls-ca'];
  const carried = FLAGS.filter((flag) => flag.commands.includes('k8s') && flag.group !== 'Kubernetes:');

  it('are carried into the pods, or there is a reason why not', () => {
    const ofPods = FLAGS.filter(({ commands }) => commands.includes('run') || commands.includes('agent'));
    for (const { name, pods, commands } of FLAGS) {
      const isOfPods = ofPods.some((flag) => flag.name === name);
      assert.equal(pods !== null, isOfPods, `--${name} says what pods make of it`);
      if (pods === null) continue;
      if (typeof pods === 'object') assert.ok(pods.why.length > 10, name);
      assert.equal(commands.includes('k8s'), typeof pods === 'string', name);
    }
    assert.deepEqual(
      carried.map(({ name }) => name).toSorted(),
      [...Object.keys(SAMPLES), ...ELSEWHERE].toSorted(),
    );
  });

  for (const [name, [value, target = 'my-server:8000']] of Object.entries(SAMPLES)) {
    it(`--${name} reaches the pod that it is for, and that pod takes it`, async () => {
      const given = value === null ? `--${name}` : `--${name}=${value}`;
      const more = name === 'alias-dev' ? ['--source-ip=10.0.0.9'] : [];
      const base = ['--target', target, '--conns', '100k', '--expect-agents', '5', '--image', IMAGE];
      const manifests = await manifestsOf([...base, '--net-admin', ...more, given]);
      const args = (['coordinator', 'agent'] as const).map(
        (component) => podOf(manifests, component).containers[0]!.args,
      );
      const isForAgent = FLAGS.find((flag) => flag.name === name)?.commands.includes('agent') === true;
      assert.deepEqual(
        args.map((each) => each.includes(given)),
        [!isForAgent, isForAgent],
      );
      for (const each of args) {
        const inPod = each.map((arg) => arg.replaceAll('$(JOB_COMPLETION_INDEX)', '7'));
        assert.equal((await valuesOf(inPod)).one('token-file'), '/run/secrets/c100k-bench/token');
      }
    });
  }

  it('bring the certificates of --tls-ca in the Secret, because a pod has no files of ours', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'c100k-test-'));
    try {
      const path = join(folder, 'ca.pem');
      const pem = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';
      writeFileSync(path, pem);
      const base = ['-t', 'tls://my-server:8443', '-c', '100k', '--expect-agents', '5', '--image', IMAGE];
      const manifests = await manifestsOf([...base, '--tls-ca', path]);
      const { stringData } = manifests[0] as { stringData: Record<string, string> };
      assert.equal(stringData['ca.pem'], pem);
      const { args } = podOf(manifests, 'coordinator').containers[0]!;
      assert.ok(args.includes('--tls-ca=/run/secrets/c100k-bench/ca.pem'));
      assert.ok(!JSON.stringify(manifests.slice(1)).includes(folder), 'no path of this machine');
      for (const manifest of manifests) assert.deepEqual(kubernetesProblems(manifest), []);
      writeFileSync(path, pem + '#'.repeat(1_000_000));
      await assert.rejects(manifestsOf([...base, '--tls-ca', path]), /a Secret takes 1,000,000/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('are checked before they are carried', async () => {
    for (const bad of ['--require=verified>=1%', '--target-stats=my-server', '--probe-every=1s']) {
      await assert.rejects(manifestsOf([...BASIC, bad]), BenchError, bad);
    }
  });
});
