/** Tests which flags reach which pod, and that what the pods would refuse is refused here. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { FLAGS } from '../../src/api/flags/flags.ts';
import { clearCredentials, readKubernetesRun } from '../../src/api/kubernetes-request.ts';
import { BenchError, ExitCode } from '../../src/base/errors.ts';
import { kubernetesProblems } from '../support/kubernetes-check.ts';
import { BASIC, IMAGE, manifestsOf, podOf, valuesOf } from './manifests.ts';

describe('a run in pods', () => {
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
      await assert.rejects(
        readKubernetesRun(values),
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

it('flags of the pods whose text may be a credential are named, and only those', async () => {
  const named = async (...args: string[]): Promise<readonly string[]> =>
    clearCredentials(await valuesOf(['k8s', ...BASIC, ...args]));
  assert.deepEqual(
    await named('--header', 'X-Room: 1', '--ws-protocol', 'mqtt', '--first-message', '@a'),
    [],
  );
  assert.deepEqual(
    await named('--header', 'X-Room: 1', '--header', 'Authorization: Bearer x', '--first-message', 'AUTH x'),
    ['--header', '--first-message'].toSorted((a, b) => order(a) - order(b)),
  );
  function order(flag: string): number {
    return FLAGS.findIndex(({ name }) => `--${name}` === flag);
  }
});

describe('the flags of a run and of an agent', () => {
  /** What a flag goes with, where it does not go alone. */
  const NEEDS: Readonly<Record<string, readonly string[]>> = {
    'alias-dev': ['--source-ip=10.0.0.9'],
    'send-every': ['--send=x'],
    'reopen-after': ['--on-drop=reopen'],
    'reopen-jitter': ['--on-drop=reopen'],
    'proxy-source': ['--proxy-protocol=v2'],
  };

  /** One value for each carried flag, with the target that takes it. */
  const SAMPLES: Readonly<Record<string, readonly [value: string | null, target?: string]>> = {
    rate: ['5k/s'],
    churn: ['5k/s'],
    lifetime: ['exp:60s'],
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
    'reopen-after': ['backoff:1s..60s'],
    'reopen-jitter': ['50%'],
    'proxy-protocol': ['v1'],
    'proxy-source': ['203.0.113.0/24'],
    'target-stats': ['http://my-server:8001'],
    'expect-banner': ['SSH-2.0-'],
    'ws-message': ['hello there', 'ws://my-server'],
    'first-message': ['PING'],
    expect: ['+PONG'],
    answer: ['2=3'],
    send: ['PING {seq}'],
    'send-every': ['5s'],
    'http-status': ['204', 'https://my-server'],
    'host-header': ['www.example', 'http://my-server'],
    'backend-from': ['/^(.)/'],
    header: ['Authorization: Bearer x', 'https://my-server'],
    'ws-protocol': ['mqtt', 'ws://my-server'],
    method: ['POST', 'https://my-server'],
    body: ['{"a": 1}', 'https://my-server'],
    'tls-servername': ['www.example', 'tls://my-server:8443'],
    insecure: [null, 'wss://my-server'],
    alpn: ['mqtt', 'mqtts://my-server'],
    'tls-resume': [null, 'mqtts://my-server'],
    'mqtt-version': ['3.1.1', 'mqtt://my-server'],
    'mqtt-client-id': ['d-{agent}-{conn}', 'mqtt://my-server'],
    'mqtt-user': ['fleet', 'mqtt://my-server'],
    'mqtt-keep-alive': ['90s', 'mqtt://my-server'],
    'mqtt-subscribe': ['a/{conn}', 'mqtts://my-server'],
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
    report: ['full'],
    'metrics-listen': ['0.0.0.0:9100'],
    otlp: ['http://127.0.0.1:4318/v1/metrics'],
  };
  /** Shown to be carried by the tests above, or through the Secret. */
  const ELSEWHERE = ['stage', 'close-order', 'target', 'conns', 'expect-agents', 'token-file', 'tls-ca'];
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
      const more = NEEDS[name] ?? [];
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

  it('bring stages, in place of a number of connections, with the order of closing', async () => {
    const given = ['--stage=2m:100k', '--stage=10m:20k', '--close-order=oldest'];
    const base = ['--target', 'my-server:8000', '--expect-agents', '5', '--image', IMAGE];
    const manifests = await manifestsOf([...base, '--net-admin', ...given]);
    const { args } = podOf(manifests, 'coordinator').containers[0]!;
    assert.deepEqual(
      given.filter((each) => !args.includes(each)),
      [],
    );
    assert.deepEqual((await valuesOf(args)).list('stage'), ['2m:100k', '10m:20k']);
  });

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
