/**
 * Owns the flags that say who takes part (this host, agents that join, agents that ssh starts), and by which the owner of a
 * host says what an agent may use of it, whatever target a run names. Must never start one (coordinator/).
 */
import { networkInterfaces } from 'node:os';
import { basename } from 'node:path';
import { expandAddresses, withZone } from '../base/address.ts';
import { ErrorCode, usageError } from '../base/errors.ts';
import type { RunOptions, SshAgentsOptions } from '../coordinator/run-settings.ts';
import { allowsDevice, allowsSource, type SourceLimits } from '../plan/allowance.ts';
import { parseSourcePrefix } from '../run/alias.ts';
import { type FlagValues, flagValue, flagValues, writtenBack } from './flags/flags.ts';
import { readSources } from './run-request.ts';
import { masterToken } from './token-source.ts';

/** The flags of one host that agents which ssh starts get too: they may be the same on several hosts. */
const SENT_BY_SSH = ['holders', 'engine', 'source-ports'] as const;

export type AgentsOptions = Pick<
  RunOptions,
  'listen' | 'token' | 'hasLocalAgent' | 'remoteAgents' | 'waitAgentsMs' | 'onAgentLoss' | 'ssh'
> & {
  /** where agents reach us, `host:port`; null: the address that they would see */
  readonly advertise: string | null;
};

/**
 * Reads who takes part.
 * @param environmentToken what the environment brought; empty: none
 * @throws BenchError (exit 2) on flags that contradict each other
 */
export async function readAgents(values: FlagValues, environmentToken: string): Promise<AgentsOptions> {
  const ssh = readSsh(values);
  const joining = flagValue(values, 'expect-agents') ?? 0;
  const kinds = readKinds(values, joining + (ssh?.hosts.length ?? 0));
  if (!kinds.local) checkHostFlags(values, ssh !== null);
  const remoteAgents = kinds.remote ? joining + (ssh?.hosts.length ?? 0) : 0;
  const tokenFile = flagValue(values, 'token-file');
  if (joining > 0 && tokenFile === null && environmentToken === '') {
    throw usageError(
      ErrorCode.usage,
      'agents that join need a token, and one that is made for this run alone is known to none of them',
      'add --token-file run.token: it is made when it is not there, and the same file serves the agents',
    );
  }
  return {
    listen: readListen(values, remoteAgents > 0 && ssh !== null),
    token: await masterToken(tokenFile, environmentToken),
    hasLocalAgent: kinds.local,
    remoteAgents,
    waitAgentsMs: flagValue(values, 'wait-agents'),
    onAgentLoss: flagValue(values, 'on-agent-loss'),
    ssh,
    advertise: flagValue(values, 'advertise'),
  };
}

/** A flag that describes this host says nothing where this host takes no part: it is not sent to others. */
function checkHostFlags(values: FlagValues, hasSsh: boolean): void {
  const given = [
    // Two hosts with the same addresses would take each other's connections.
    ...['source-ip', 'source-prefix'].filter((name) => values.list(name).length > 0),
    // Ports and processes may be the same on several hosts: agents that ssh starts get these on their command line.
    ...['alias-dev', ...(hasSsh ? [] : SENT_BY_SSH)].filter((name) => values.one(name) !== null),
  ][0];
  if (given === undefined) return;
  const flag = values.origin(given);
  throw usageError(
    ErrorCode.usage,
    `${flag} describes this host, and this host takes no part in the run: nothing of it is sent to other hosts`,
    `give it to the agents: c100k-bench agent --${given}, or add --agents local,remote`,
  );
}

/** The flags of a host that agents started by ssh get on their command line; none needs quoting in a shell. */
function agentArguments(values: FlagValues): readonly string[] {
  return SENT_BY_SSH.flatMap((name) => {
    const text = writtenBack(values, name);
    return text === null ? [] : [`--${name}`, text];
  });
}

/** Without --agents: the remote ones when any are expected, otherwise this host. */
function readKinds(values: FlagValues, remoteAgents: number): { local: boolean; remote: boolean } {
  const kinds = flagValue(values, 'agents');
  if (kinds === null) return { local: remoteAgents === 0, remote: remoteAgents > 0 };
  const { local, remote } = kinds;
  if (remote !== remoteAgents > 0) {
    throw usageError(
      ErrorCode.usage,
      remote ? 'remote agents, but how many?' : 'agents are expected, but --agents names only local',
      remote ? 'add --expect-agents 5, or --ssh user@host' : 'write --agents local,remote',
    );
  }
  return { local, remote };
}

function readListen(values: FlagValues, isReached: boolean): { host: string; port: number } {
  // Agents that ssh starts come from elsewhere; none is let in without the token either way.
  return flagValue(values, 'listen') ?? { host: isReached ? '0.0.0.0' : '127.0.0.1', port: 0 };
}

function readSsh(values: FlagValues): SshAgentsOptions | null {
  const hosts = flagValues(values, 'ssh').flat();
  if (hosts.length === 0) return null;
  if (new Set(hosts).size < hosts.length) {
    throw usageError(ErrorCode.usage, `${values.origin('ssh')} names a host twice`, 'name each host once');
  }
  return {
    hosts,
    command: flagValue(values, 'ssh-command'),
    sshArguments: flagValues(values, 'ssh-option').flatMap((option) => option.split(/\s+/)),
    advertise: flagValue(values, 'advertise'),
    agentArguments: agentArguments(values),
  };
}

/**
 * The line to type on the other hosts.
 * @param bound where the coordinator listens
 * @param tokenFile the coordinator's own; null: the agents have the token otherwise
 */
export function joinLine(
  bound: { host: string; port: number },
  advertise: string | null,
  tokenFile: string | null,
): string {
  const { host, port } = bound;
  const address = host === '0.0.0.0' || host === '::' ? (ownAddress(host) ?? 'THIS-HOST') : host;
  const at = advertise ?? (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);
  return `c100k-bench agent --join ${at} --token-file ${tokenFile === null ? 'FILE' : basename(tokenFile)}`;
}

/** An address of this host that others reach it by (`::` takes IPv4, too); a link-local one only where there is no other, with its zone. */
function ownAddress(any: '0.0.0.0' | '::'): string | undefined {
  const own = Object.entries(networkInterfaces())
    .flatMap(([device, addresses]) => (addresses ?? []).map((each) => ({ ...each, device })))
    .filter(({ internal }) => !internal)
    .map(({ address, device }) => withZone(address, device));
  const v4 = own.find((address) => !address.includes(':'));
  if (any === '0.0.0.0') return v4;
  return own.find((address) => address.includes(':') && !address.includes('%')) ?? v4 ?? own[0];
}

/**
 * Reads what the owner says about sources.
 * @throws BenchError (exit 2) on text that cannot be read, and on sources of the owner's own that it does not allow
 */
export function readSourceLimits(values: FlagValues): SourceLimits {
  const sources = flagValues(values, 'allow-source');
  const devices = flagValues(values, 'allow-alias-dev');
  const limits: SourceLimits = {
    sources: sources.length === 0 ? null : sources,
    aliasDevices: devices.length === 0 ? null : devices,
  };
  const { addresses, prefixes, aliasDevice } = readSources(values);
  const named = [
    ...(addresses.length === 0 ? [] : expandAddresses(addresses)),
    ...prefixes.flatMap((text) => parseSourcePrefix(text).addresses),
  ];
  const outside =
    limits.sources === null ? undefined : named.find((address) => !allowsSource(limits, address));
  if (outside !== undefined) {
    throw usageError(
      ErrorCode.badAddress,
      `the source address ${outside} is not in --allow-source ${limits.sources?.join(', ')}`,
      `leave it out, or add --allow-source ${outside}`,
    );
  }
  if (aliasDevice !== null && aliasDevice !== 'auto' && !allowsDevice(limits, aliasDevice)) {
    throw usageError(
      ErrorCode.badDevice,
      `--alias-dev ${aliasDevice} is not among --allow-alias-dev ${limits.aliasDevices?.join(', ')}`,
      `add --allow-alias-dev ${aliasDevice}`,
    );
  }
  return limits;
}
