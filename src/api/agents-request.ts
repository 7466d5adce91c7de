/**
 * Owns the flags of a run that say who takes part: this host, agents that join, agents that ssh starts.
 * Must never start one (coordinator/).
 */
import { networkInterfaces } from 'node:os';
import { basename } from 'node:path';
import { ErrorCode, usageError } from '../base/errors.ts';
import { formatPortRanges } from '../base/tuple-space.ts';
import type { RunOptions } from '../coordinator/run-settings.ts';
import type { SshAgentsOptions } from '../coordinator/ssh-agents.ts';
import type { LossPolicy } from '../run/run-spec.ts';
import { readNumber } from './bounds.ts';
import type { FlagValues } from './flags/flag-values.ts';
import { readHolders, readSources } from './run-request.ts';
import { environmentToken, masterToken } from './token-source.ts';

/** Where a command has no such flag. */
const WAIT_AGENTS_MS = 60_000;

export type AgentsOptions = Pick<
  RunOptions,
  'listen' | 'token' | 'hasLocalAgent' | 'remoteAgents' | 'waitAgentsMs' | 'onAgentLoss' | 'ssh'
>;

/**
 * Reads who takes part.
 * @throws BenchError (exit 2) on flags that contradict each other
 */
export function readAgents(values: FlagValues): AgentsOptions {
  const ssh = readSsh(values);
  const joining = readNumber(values, 'expect-agents') ?? 0;
  const kinds = readKinds(values, joining + (ssh?.hosts.length ?? 0));
  if (!kinds.local) checkHostFlags(values, ssh !== null);
  const remoteAgents = kinds.remote ? joining + (ssh?.hosts.length ?? 0) : 0;
  const tokenFile = values.one('token-file');
  if (joining > 0 && tokenFile === null && environmentToken() === '') {
    throw usageError(
      ErrorCode.usage,
      'agents that join need a token, and one that is made for this run alone is known to nobody',
      'add --token-file run.token: it is made when it is not there, and the same file serves the agents',
    );
  }
  return {
    listen: readListen(values, remoteAgents > 0 && ssh !== null),
    token: masterToken(tokenFile),
    hasLocalAgent: kinds.local,
    remoteAgents,
    waitAgentsMs: readNumber(values, 'wait-agents') ?? WAIT_AGENTS_MS,
    onAgentLoss: (values.one('on-agent-loss') ?? 'continue') as LossPolicy,
    ssh,
  };
}

/** A flag that describes this host says nothing where this host takes no part: it is not sent to others. */
function checkHostFlags(values: FlagValues, hasSsh: boolean): void {
  const given = [
    // Two hosts with the same addresses would take each other's connections.
    ...['source-ip', 'source-prefix'].filter((name) => values.list(name).length > 0),
    // Ports and processes may be the same on several hosts: agents that ssh starts get these on their command line.
    ...['alias-dev', ...(hasSsh ? [] : ['source-ports', 'holders'])].filter(
      (name) => values.one(name) !== null,
    ),
  ][0];
  if (given === undefined) return;
  const flag = values.origin(given);
  throw usageError(
    ErrorCode.usage,
    `${flag} describes this host, and this host takes no part in the run: nothing of it is sent to other hosts`,
    `give it to the agents: c100k-bench agent --${given}, or add --agents local,remote`,
  );
}

/** The flags of a host that agents started by ssh get on their command line, as typed; none needs quoting in a shell. */
function agentArguments(values: FlagValues): readonly string[] {
  const holders = readHolders(values);
  const ports = readSources(values).ports;
  return [
    ...(holders === null ? [] : ['--holders', String(holders)]),
    ...(ports === null ? [] : ['--source-ports', formatPortRanges(ports)]),
  ];
}

/** Without --agents: the remote ones when any are expected, otherwise this host. */
function readKinds(values: FlagValues, remoteAgents: number): { local: boolean; remote: boolean } {
  const text = values.one('agents');
  if (text === null) return { local: remoteAgents === 0, remote: remoteAgents > 0 };
  const kinds = text.split(',').map((kind) => kind.trim());
  if (kinds.length === 0 || kinds.some((kind) => kind !== 'local' && kind !== 'remote')) {
    throw usageError(
      ErrorCode.usage,
      `${values.origin('agents')}: "${text}" is not a list of local and remote`,
      'write --agents local, --agents remote or --agents local,remote',
    );
  }
  const remote = kinds.includes('remote');
  if (remote !== remoteAgents > 0) {
    throw usageError(
      ErrorCode.usage,
      remote ? 'remote agents, but how many?' : 'agents are expected, but --agents names only local',
      remote ? 'add --expect-agents 5, or --ssh user@host' : 'write --agents local,remote',
    );
  }
  return { local: kinds.includes('local'), remote };
}

function readListen(values: FlagValues, isReached: boolean): { host: string; port: number } {
  const text = values.one('listen');
  // Agents that ssh starts come from elsewhere; nobody else is let in without the token either way.
  if (text === null) return { host: isReached ? '0.0.0.0' : '127.0.0.1', port: 0 };
  const match = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<host>[^:]*)):(?<port>\d{1,5})$/.exec(text);
  const port = Number(match?.groups?.port ?? Number.NaN);
  if (match === null || port > 65_535) {
    throw usageError(
      ErrorCode.badEndpoint,
      `${values.origin('listen')}: "${text}" is not an address and a port`,
      'for example: --listen 0.0.0.0:7100',
    );
  }
  return { host: match.groups?.v6 ?? (match.groups?.host || '0.0.0.0'), port };
}

function readSsh(values: FlagValues): SshAgentsOptions | null {
  const hosts = values.list('ssh').flatMap((text) => text.split(',').map((host) => host.trim()));
  if (hosts.length === 0) return null;
  const bad = hosts.find((host) => !/^[A-Za-z0-9_][A-Za-z0-9_.@:%-]*$/.test(host));
  if (bad !== undefined) {
    throw usageError(
      ErrorCode.usage,
      `${values.origin('ssh')}: "${bad}" is not user@host`,
      'for example: --ssh root@10.0.0.2,root@10.0.0.3',
    );
  }
  if (new Set(hosts).size < hosts.length) {
    throw usageError(ErrorCode.usage, `${values.origin('ssh')} names a host twice`, 'name each host once');
  }
  return {
    hosts,
    command: values.one('ssh-command') ?? 'c100k-bench',
    sshArguments: values.list('ssh-option').flatMap((option) => option.split(/\s+/)),
    advertise: values.one('advertise'),
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
  const isAny = host === '0.0.0.0' || host === '::';
  const own = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find((address) => !address.internal && address.family === (host === '::' ? 'IPv6' : 'IPv4'));
  const address = isAny ? (own?.address ?? 'THIS-HOST') : host;
  const at = advertise ?? (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);
  return `c100k-bench agent --join ${at} --token-file ${tokenFile === null ? 'FILE' : basename(tokenFile)}`;
}
