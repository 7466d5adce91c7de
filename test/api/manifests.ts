/** Owns manifests made from a command line of `k8s`, for tests of what reaches the pods. */
import assert from 'node:assert/strict';
import type { FlagValues } from '../../src/api/flags/flags.ts';
import { readKubernetesRun } from '../../src/api/kubernetes-request.ts';
import { parseCommandLine } from '../../src/cli/command-line.ts';
import { kubernetesManifests } from '../../src/place/kubernetes.ts';

export const IMAGE = 'registry.example/c100k-bench:1';
export const BASIC = [
  '--target',
  'my-server:8000',
  '--conns',
  '100k',
  '--expect-agents',
  '5',
  '--image',
  IMAGE,
];
export const RICH = [
  ...['-t', 'echo://10.0.0.1:8000-8003', '-c', '1m', '-r', '5k/s', '-d', '1h30m', '--max-pending', '2000'],
  ...['--connect-timeout', '20s', '--close', 'fin', '--probe-every', '30s', '--on-agent-loss', 'replace'],
  ...['--expect-agents', '20', '--holders', '4', '--source-ports', '1024-32767', '--net-admin'],
  ...['--source-prefix', 'fd00:$(JOB_COMPLETION_INDEX)::/112', '--max-conns', '60k', '--max-rate', '1k/s'],
  ...['--allow-target', '10.0.0.0/8:8000-8003', '--allow-target', '192.168.0.0/16'],
  ...['--image', IMAGE, '--namespace', 'on', '--run-name', 'night-1', '--spread', 'required'],
  ...['--cpu', '500m', '--memory', '2Gi', '--wait-pods', '10m'],
];

export type Anything = Record<string, unknown>;
interface Pod {
  readonly containers: readonly { args: string[]; env?: Anything[]; securityContext: Anything }[];
  readonly securityContext: Anything;
  readonly affinity?: { readonly podAntiAffinity: object };
}
interface Job {
  readonly spec: { readonly template: { readonly spec: Pod } };
}

export async function valuesOf(args: readonly string[]): Promise<FlagValues> {
  const parsed = await parseCommandLine(args, {}, '0.0.0', 80);
  assert(parsed.kind === 'command');
  return parsed.values;
}

export async function manifestsOf(args: readonly string[]): Promise<readonly Anything[]> {
  return kubernetesManifests(await readKubernetesRun(await valuesOf(['k8s', ...args])));
}

export function podOf(manifests: readonly Anything[], component: 'coordinator' | 'agent'): Pod {
  const job = manifests.find((each) => {
    const { labels } = each.metadata as { labels: Anything };
    return each.kind === 'Job' && labels['app.kubernetes.io/component'] === component;
  });
  return (job as unknown as Job).spec.template.spec;
}
