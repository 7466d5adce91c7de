/**
 * Owns what a run in pods is asked for: the flags of `k8s` in, everything that manifests need out. Whatever the pods would
 * refuse is refused here. Must never make a manifest (place/).
 */

import { isAddress } from '../base/address.ts';
import { endpointsOf, type TargetSpec } from '../base/endpoint.ts';
import { ErrorCode, usageError } from '../base/errors.ts';
import { formatCount, formatDuration } from '../base/units.ts';
import { formatToken } from '../control/token.ts';
import { INDEX_VARIABLE, type KubernetesRun } from '../place/kubernetes.ts';
import { ANY_SOURCE, allowsEndpoint } from '../plan/allowance.ts';
import { readSourceLimits } from './agents-request.ts';
import type { Flag } from './flags/flag.ts';
import { argumentsOf, FLAGS, type FlagValues, flagValue, flagValues, shownText } from './flags/flags.ts';
import { type RunRequest, readRunRequest } from './run-request.ts';
import { environmentToken, masterToken } from './token-source.ts';
import { readWatch } from './watch-request.ts';

/** A Secret holds 1 MiB (MaxSecretSize in the Kubernetes API), and the token is in it too. */
const AUTHORITY_BYTES_MAX = 1_000_000;
const INDEX_REFERENCE = `$(${INDEX_VARIABLE})`;

/**
 * Reads and checks the flags. Everything that the pods would refuse is refused here.
 * @throws BenchError (exit 2)
 */
export async function readKubernetesRun(values: FlagValues): Promise<KubernetesRun> {
  const agents = flagValue(values, 'expect-agents');
  if (agents === null) {
    throw usageError(ErrorCode.usage, 'how many agents? --expect-agents is missing', 'add --expect-agents 5');
  }
  // In a pod the reference is a number; here any will do.
  const request = readRunRequest(withIndex(values, '0'));
  readWatch(values, request);
  refuseFiles(values);
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
  const image = flagValue(values, 'image');
  if (image === null) {
    throw usageError(
      ErrorCode.usage,
      'which image? --image is missing',
      'build one from docs/deploy/Dockerfile, push it, and add --image registry.example/c100k-bench:1',
    );
  }
  return {
    name: flagValue(values, 'run-name'),
    namespace: flagValue(values, 'namespace'),
    image,
    agents,
    runArguments: podArguments(values, (flag) => !isOfAgent(flag)),
    agentArguments: podArguments(values, isOfAgent),
    waitPods: formatDuration(flagValue(values, 'wait-pods')),
    hasNetAdmin,
    spread: flagValue(values, 'spread'),
    cpu: flagValue(values, 'cpu'),
    memory: flagValue(values, 'memory'),
    ca: readAuthority(request),
    token: formatToken(await masterToken(flagValue(values, 'token-file'), environmentToken())),
  };
}

/** A pod has no files of ours, and its arguments are read by whoever may read the Job. */
function refuseFiles(values: FlagValues): void {
  const named = [
    ...values.list('header').map((text) => ['header', text]),
    ...['body', 'first-message', 'expect', 'send'].map((name) => [name, values.one(name) ?? '']),
  ];
  const [name, text] = named.find(([, each]) => each?.startsWith('@')) ?? [];
  if (name === undefined) return;
  throw usageError(
    ErrorCode.usage,
    `${values.origin(name)} ${text} is a file, which a pod does not have`,
    `type ${values.origin(name)} with the text itself: whoever may read the Job sees it`,
  );
}

/** What describes a host or its owner's limits is for each agent, the rest for the coordinator. */
function isOfAgent(flag: Flag): boolean {
  return flag.commands.includes('agent');
}

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

/** The flags that pods get as arguments, in the order of the help, without those at their default. */
function podArguments(values: FlagValues, isPicked: (flag: Flag) => boolean): string[] {
  return FLAGS.filter((flag) => flag.pods === 'argument' && isPicked(flag))
    .filter((flag) => flag.kind !== 'one' || values.one(flag.name) !== flag.default)
    .flatMap((flag) => argumentsOf(flag, values));
}

/** The flags of the pods whose text may be a credential: it stands in their command lines as it was typed. */
export function clearCredentials(values: FlagValues): readonly string[] {
  return FLAGS.filter((flag) => flag.pods === 'argument' && flag.kind !== 'switch')
    .filter(({ name, kind }) => {
      const texts = kind === 'list' ? values.list(name) : [values.one(name) ?? ''];
      return texts.some((text) => shownText(name, text) !== text);
    })
    .map(({ name }) => `--${name}`);
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
  // In a pod the reference is a number; here any will do.
  readSourceLimits(withIndex(values, '0'));
  flagValues(values, 'allow-target');
  for (const name of [
    'holders',
    'engine',
    'max-conns',
    'max-rate',
    'max-duration',
    'progress-every',
  ] as const) {
    flagValue(values, name);
  }
}

/** A target that the agents would refuse, or that is not where the user thinks, is found here already. */
function checkTargets(targets: readonly TargetSpec[], values: FlagValues): void {
  const allowed = flagValues(values, 'allow-target');
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
