/**
 * Owns `c100k-bench k8s`: the flags of a run in, manifests for `kubectl apply -f -` on stdout.
 * Must never talk to a cluster, and must never put the token anywhere but into the Secret.
 */

import { needNumber, readNumber } from '../../api/bounds.ts';
import type { Flag } from '../../api/flags/flag.ts';
import type { FlagValues } from '../../api/flags/flag-values.ts';
import { flagsOf } from '../../api/flags/flags.ts';
import { type RunRequest, readHolders, readRunRequest } from '../../api/run-request.ts';
import { readSourceLimits } from '../../api/source-limits.ts';
import { closeToOthers } from '../../api/token-file.ts';
import { masterToken } from '../../api/token-source.ts';
import { readWatch } from '../../api/watch-request.ts';
import { isAddress } from '../../base/address.ts';
import { endpointsOf, type TargetSpec } from '../../base/endpoint.ts';
import { ErrorCode, ExitCode, usageError } from '../../base/errors.ts';
import { formatCount } from '../../base/units.ts';
import { formatToken } from '../../control/token.ts';
import {
  INDEX_VARIABLE,
  type KubernetesRun,
  kubernetesManifests,
  manifestYaml,
  type Spread,
} from '../../place/kubernetes.ts';
import { ANY_SOURCE, allowsEndpoint, parseAllowedTarget } from '../../plan/allowance.ts';
import type { CommandContext } from '../command-context.ts';
import { tell, writeResult } from '../output.ts';

/** A Secret holds 1 MiB (MaxSecretSize in the Kubernetes API), and the token is in it too. */
const AUTHORITY_BYTES_MAX = 1_000_000;
/** Leaves room for what Kubernetes adds: a DNS label has 63 characters. */
const NAME_CHARS_MAX = 40;
const INDEX_REFERENCE = `$(${INDEX_VARIABLE})`;

/**
 * Prints the manifests.
 * @returns 0
 * @throws BenchError (exit 2) on flags that no run would take
 */
export async function k8sCommand({ values }: CommandContext): Promise<ExitCode> {
  const run = readKubernetesRun(values);
  closeToOthers();
  await writeResult(manifestYaml(kubernetesManifests(run), headingOf(run)));
  tell('the Secret in these manifests holds the token of the run: apply them, and do not keep them');
  return ExitCode.held;
}

/**
 * Reads and checks the flags. Everything that the pods would refuse is refused here.
 * @throws BenchError (exit 2)
 */
export function readKubernetesRun(values: FlagValues): KubernetesRun {
  const agents = values.one('expect-agents');
  if (agents === null) {
    throw usageError(ErrorCode.usage, 'how many agents? --expect-agents is missing', 'add --expect-agents 5');
  }
  // In a pod the reference is a number; here any will do.
  const request = readRunRequest(withIndex(values, '0'));
  readWatch(values, request);
  checkAgentFlags(values);
  checkTargets(request.targets, values);
  const hasNetAdmin = values.on('net-admin');
  if (!hasNetAdmin && (values.one('alias-dev') !== null || values.list('source-prefix').length > 0)) {
    throw usageError(
      ErrorCode.usage,
      'adding addresses or local routes in a pod needs the capability NET_ADMIN',
      'add --net-admin, where your cluster allows it',
    );
  }
  const waitPods = values.one('wait-pods') ?? '5m';
  readNumber(values, 'wait-pods');
  return {
    name: label(values, 'run-name', NAME_CHARS_MAX) ?? 'c100k-bench',
    namespace: label(values, 'namespace', 63),
    image: readImage(values),
    agents: needNumber(values, 'expect-agents'),
    runArguments: argumentsOf(values, (flag) => !isOfAgent(flag)),
    agentArguments: argumentsOf(values, isOfAgent),
    waitPods,
    hasNetAdmin,
    spread: (values.one('spread') ?? 'preferred') as Spread,
    cpu: quantity(values, 'cpu'),
    memory: quantity(values, 'memory'),
    ca: readAuthority(request),
    token: formatToken(masterToken(values.one('token-file'))),
  };
}

/** What describes a host or its owner's limits is for each agent, the rest for the coordinator. */
function isOfAgent(flag: Flag): boolean {
  return flag.commands.includes('agent');
}

/** Carried by the Secret, or written by the manifests themselves. */
const WRITTEN_OTHERWISE: ReadonlySet<string> = new Set(['token-file', 'expect-agents', 'tls-ca']);

/** What `--tls-ca` holds goes into the Secret, beside the token: a pod has no files of ours. */
function readAuthority({ spec, caPath }: RunRequest): string | null {
  const ca = spec.protocolOptions?.tls.ca ?? null;
  if (ca === null || Buffer.byteLength(ca) <= AUTHORITY_BYTES_MAX) return ca;
  throw usageError(
    ErrorCode.usage,
    `--tls-ca ${caPath} has ${formatCount(Buffer.byteLength(ca))} bytes; a Secret takes ${formatCount(AUTHORITY_BYTES_MAX)}`,
    "give the one certificate that signed the target's: openssl s_client -showcerts shows it",
  );
}

/** The carried flags as arguments, in the order of the help, without those at their default. */
function argumentsOf(values: FlagValues, isPicked: (flag: Flag) => boolean): string[] {
  const carried = flagsOf('k8s').filter(
    (flag) => flag.group !== 'Kubernetes:' && !WRITTEN_OTHERWISE.has(flag.name),
  );
  return carried.filter(isPicked).flatMap((flag) => {
    const name = `--${flag.name}`;
    if (flag.kind === 'switch') return values.on(flag.name) ? [name] : [];
    const given = flag.kind === 'list' ? values.list(flag.name) : [values.one(flag.name)];
    return given.flatMap((value) => (value === null || value === flag.default ? [] : [`${name}=${value}`]));
  });
}

/** The flags as one pod sees them. */
function withIndex(values: FlagValues, index: string): FlagValues {
  const fill = (text: string): string => text.replaceAll(INDEX_REFERENCE, index);
  return {
    ...values,
    one: (name) => {
      const value = values.one(name);
      return value === null ? null : fill(value);
    },
    list: (name) => values.list(name).map(fill),
  };
}

function checkAgentFlags(values: FlagValues): void {
  readHolders(values);
  // In a pod the reference is a number; here any will do.
  readSourceLimits(withIndex(values, '0'));
  for (const target of values.list('allow-target')) parseAllowedTarget(target);
  for (const name of ['max-conns', 'max-rate', 'max-duration', 'progress-every'] as const) {
    readNumber(values, name);
  }
}

/** A target that the agents would refuse, or that is not where the user thinks, is found here already. */
function checkTargets(targets: readonly TargetSpec[], values: FlagValues): void {
  const allowed = values.list('allow-target').map(parseAllowedTarget);
  const allowance = {
    targets: allowed.length === 0 ? null : allowed,
    tokenTargets: null,
    ...ANY_SOURCE,
    connectionsMax: Number.POSITIVE_INFINITY,
    ratePerSecMax: Number.POSITIVE_INFINITY,
    runMsMax: Number.POSITIVE_INFINITY,
    isOwner: false,
  };
  for (const target of targets) {
    if (target.self) {
      throw usageError(
        ErrorCode.badEndpoint,
        '--target self is the pod of the coordinator, which agents in other pods do not reach',
        'name a Service, such as --target my-server:8000',
      );
    }
    if (!isAddress(target.host)) continue;
    const forbidden = endpointsOf(target, [target.host]).find(
      (endpoint) => !allowsEndpoint(allowance, endpoint),
    );
    if (forbidden === undefined) continue;
    throw usageError(
      ErrorCode.usage,
      `the agents would refuse ${forbidden.address}:${forbidden.port}: it is neither private nor allowed`,
      `if it is yours to load: --allow-target ${forbidden.address}:${forbidden.port}`,
    );
  }
}

function readImage(values: FlagValues): string {
  const image = values.one('image');
  if (image === null || !/^[\w][\w.:/@-]*$/.test(image)) {
    throw usageError(
      ErrorCode.usage,
      image === null ? 'which image? --image is missing' : `--image: "${image}" is not the name of an image`,
      'build one from docs/deploy/Dockerfile, push it, and add --image registry.example/c100k-bench:1',
    );
  }
  return image;
}

function label(values: FlagValues, name: string, charsMax: number): string | null {
  const text = values.one(name);
  if (text === null) return null;
  if (/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(text) && text.length <= charsMax) return text;
  throw usageError(
    ErrorCode.usage,
    `${values.origin(name)}: "${text}" is not a name that Kubernetes takes`,
    `use at most ${charsMax} small letters, digits and dashes`,
  );
}

function quantity(values: FlagValues, name: string): string {
  const text = values.one(name) ?? '';
  if (/^\d+(\.\d+)?(m|k|M|G|Ki|Mi|Gi)?$/.test(text)) return text;
  throw usageError(
    ErrorCode.badNumber,
    `${values.origin(name)}: "${text}" is not a quantity`,
    'for example: --cpu 500m --memory 2Gi',
  );
}

/** What to type next, above the manifests. */
function headingOf(run: KubernetesRun): string[] {
  const at = run.namespace === null ? '' : ` -n ${run.namespace}`;
  return [
    `c100k-bench with ${run.agents} agents. Made by: c100k-bench k8s`,
    `  start    kubectl apply -f FILE`,
    `  watch    kubectl logs${at} -f job/${run.name}-coordinator`,
    `  remove   kubectl delete${at} job,service,secret -l app.kubernetes.io/instance=${run.name}`,
    '',
    'A Job cannot be changed: remove the old run before the next one.',
    'Pods have no ulimit setting. An agent starts as many holders as the descriptors of one process ask for; where the',
    'container runtime allows few (below about 20,000), raise its LimitNOFILE on the nodes, or use more agents.',
  ];
}
