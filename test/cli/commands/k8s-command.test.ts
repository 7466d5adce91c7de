import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { readAgents } from '../../../src/api/agents-request.ts';
import { readRunRequest } from '../../../src/api/run-request.ts';
import { formatToken, generateToken, parseToken } from '../../../src/control/token.ts';
import { manifestYaml } from '../../../src/place/kubernetes.ts';
import { type Anything, BASIC, IMAGE, manifestsOf, podOf, RICH, valuesOf } from '../../api/manifests.ts';
import { kubernetesProblems } from '../../support/kubernetes-check.ts';
import { runCli } from '../../support/run-cli.ts';

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
      const agents = await readAgents(coordinator, '');
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
});
