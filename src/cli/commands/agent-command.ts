/**
 * Owns `c100k-bench agent`: where to join, with which token, and what this host's owner allows.
 * Must never take the token from an argument: every user of the host can read those.
 */
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { runAgent } from '../../agent/agent.ts';
import { hostSpecOfParent } from '../../agent/parent-pipe.ts';
import { checkAgentName } from '../../api/agent-name.ts';
import { type NumberFlag, needNumber, readNumber } from '../../api/bounds.ts';
import type { FlagValues } from '../../api/flags/flag-values.ts';
import { readHolders, readSources } from '../../api/run-request.ts';
import { readSourceLimits } from '../../api/source-limits.ts';
import { joinToken } from '../../api/token-source.ts';
import { parseTarget } from '../../base/endpoint.ts';
import { BenchError, ErrorCode, ExitCode, usageError } from '../../base/errors.ts';
import { claimsOf, type Token } from '../../control/token.ts';
import { LOCAL_VARIABLE } from '../../coordinator/local-agent.ts';
import { bindToParent, parentPidOf } from '../../engine/parent-bond.ts';
import { type Allowance, OWNER_ALLOWANCE, parseAllowedTarget } from '../../plan/allowance.ts';
import type { CommandContext } from '../command-context.ts';
import { tell } from '../output.ts';

/** `--join` with this host name: the address that our ssh connection comes from, in the first word of SSH_CONNECTION. */
const SSH_CLIENT = 'ssh-client';

/**
 * Joins a coordinator and serves one run, or with --stay one after the other.
 * @returns 0 after an orderly end, 4 when the coordinator was lost
 * @throws BenchError on wrong flags, or when it cannot join
 */
export async function agentCommand({ values, entryPath, clock }: CommandContext): Promise<ExitCode> {
  // Whoever started it: a stopped agent of a host that lost its coordinator's ssh session must get to its closing too.
  const parentPid = process.connected === true ? parentPidOf(process.env[LOCAL_VARIABLE]) : null;
  if (!bindToParent('wake', parentPid)) return ExitCode.incomplete;
  const { host, port } = readJoin(values);
  const isFromStdin = values.on('token-stdin');
  const token = await joinToken(values.one('token-file'), isFromStdin, clock.wallMs());
  const name = values.one('name') ?? claimsOf(token.identity)?.name ?? hostname();
  checkAgentName(name, values.origin('name'));
  const isForked = parentPid !== null;
  const hostSpec = isForked
    ? await hostSpecOfParent()
    : { sources: readSources(values), holders: readHolders(values) };
  if (hostSpec === null) return ExitCode.incomplete;
  const code = await runAgent(
    {
      host,
      port,
      token,
      name,
      entryPath,
      clock,
      allowance: isForked ? OWNER_ALLOWANCE : readAllowance(values, token),
      hostSpec,
      stay: values.on('stay'),
      joinTimeoutMs: needNumber(values, 'wait-coordinator'),
      partialReportPath: isForked ? null : (values.one('partial-report') ?? defaultPartialReport(name)),
      onNote: tell,
    },
    (stop) => {
      // A parent says its end over its own pipe.
      if (!isFromStdin || isForked) return;
      const ended = (): void => stop('standard input has ended');
      if (process.stdin.readableEnded) ended();
      process.stdin.resume();
      process.stdin.on('end', ended);
      process.stdin.on('error', ended);
    },
  );
  // A pipe that its writer keeps open would keep this process.
  if (isFromStdin) process.stdin.destroy();
  return code;
}

function defaultPartialReport(name: string): string {
  return join(tmpdir(), `c100k-bench-${name.replaceAll(/[^A-Za-z0-9._-]/g, '_')}-partial.json`);
}

function readAllowance(values: FlagValues, token: Token): Allowance {
  const targets = values.list('allow-target').map(parseAllowedTarget);
  const limit = (name: NumberFlag): number => readNumber(values, name) ?? Number.POSITIVE_INFINITY;
  return {
    targets: targets.length === 0 ? null : targets,
    tokenTargets: claimsOf(token.identity)?.targets?.map(parseAllowedTarget) ?? null,
    ...readSourceLimits(values),
    connectionsMax: limit('max-conns'),
    ratePerSecMax: limit('max-rate'),
    runMsMax: limit('max-duration'),
    isOwner: false,
  };
}

function readJoin(values: FlagValues): { host: string; port: number } {
  const text = values.one('join');
  if (text === null) {
    throw usageError(
      ErrorCode.usage,
      'which coordinator? --join is missing',
      'add --join host:port, as the coordinator prints it',
    );
  }
  try {
    const { host, portFrom, portTo, self } = parseTarget(text);
    if (!self && portFrom === portTo)
      return { host: host === SSH_CLIENT ? sshClient() : host, port: portFrom };
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
  }
  throw usageError(
    ErrorCode.badEndpoint,
    `${values.origin('join')}: "${text}" is not a host and one port`,
    'add --join host:port, as the coordinator prints it',
  );
}

function sshClient(): string {
  const client = process.env.SSH_CONNECTION?.split(' ')[0];
  if (client !== undefined && client !== '') return client;
  throw usageError(
    ErrorCode.usage,
    `--join ${SSH_CLIENT}:port works only in an ssh session`,
    'give the address of the coordinator instead',
  );
}
