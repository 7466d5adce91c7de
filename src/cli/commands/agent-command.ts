/**
 * Owns `c100k-bench agent`: where to join, with which token, and what this host's owner allows.
 * Must never take the token from an argument: every user of the host can read those.
 */
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { runAgent } from '../../agent/agent.ts';
import { hostSpecOfParent } from '../../agent/process-pipe.ts';
import { readSourceLimits } from '../../api/agents-request.ts';
import { type FlagValues, flagValue, flagValues } from '../../api/flags/flags.ts';
import { agentName, type HostPort } from '../../api/flags/value-types.ts';
import { engineOf, readSources } from '../../api/run-request.ts';
import { joinToken } from '../../api/token-source.ts';
import { ErrorCode, ExitCode, usageError } from '../../base/errors.ts';
import { claimsOf, type Token } from '../../control/token.ts';
import { LOCAL_VARIABLE } from '../../coordinator/local-agent.ts';
import { bindToParent, parentPidOf } from '../../engine/parent-bond.ts';
import { raisePriority } from '../../host/command.ts';
import { ownPackage } from '../../host/own-package.ts';
import { type Allowance, OWNER_ALLOWANCE, parseAllowedTarget } from '../../plan/allowance.ts';
import { systemClock } from '../../time/timer.ts';
import type { CommandContext } from '../command-line.ts';
import { tell } from '../output.ts';

/** `--join` with this host name: the address that our ssh connection comes from, in the first word of SSH_CONNECTION. */
const SSH_CLIENT = 'ssh-client';

/**
 * Joins a coordinator and serves one run, or with --stay one after the other.
 * @returns 0 after an orderly end, 4 when the coordinator was lost
 * @throws BenchError on wrong flags, or when it cannot join
 */
export async function agentCommand({ values }: CommandContext): Promise<ExitCode> {
  // Whoever started it: a stopped agent of a host that lost its coordinator's ssh session must get to its closing too.
  const parentPid = process.connected === true ? parentPidOf(process.env[LOCAL_VARIABLE]) : null;
  if (!bindToParent('wake', parentPid)) return ExitCode.incomplete;
  raisePriority();
  const { host, port } = readJoin(values);
  const isFromStdin = values.on('token-stdin');
  const token = await joinToken(flagValue(values, 'token-file'), isFromStdin, systemClock.wallMs());
  const name = agentName.parse(
    values.one('name') ?? claimsOf(token.identity)?.name ?? hostname(),
    values.origin('name'),
  );
  const isForked = parentPid !== null;
  const hostSpec = isForked
    ? await hostSpecOfParent()
    : {
        sources: readSources(values),
        holders: flagValue(values, 'holders'),
        ...engineOf(values),
      };
  if (hostSpec === null) return ExitCode.incomplete;
  const code = await runAgent(
    {
      host,
      port,
      token,
      name,
      entryPath: ownPackage().entryPath,
      clock: systemClock,
      allowance: isForked ? OWNER_ALLOWANCE : readAllowance(values, token),
      hostSpec,
      stay: values.on('stay'),
      joinTimeoutMs: flagValue(values, 'wait-coordinator'),
      partialReportPath: isForked
        ? null
        : (named) => flagValue(values, 'partial-report') ?? defaultPartialReport(named),
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
  const targets = flagValues(values, 'allow-target');
  const limit = (name: 'max-conns' | 'max-rate' | 'max-duration'): number =>
    flagValue(values, name) ?? Number.POSITIVE_INFINITY;
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

function readJoin(values: FlagValues): HostPort {
  const coordinator = flagValue(values, 'join');
  if (coordinator === null) {
    throw usageError(
      ErrorCode.usage,
      'which coordinator? --join is missing',
      'add --join host:port, as the coordinator prints it',
    );
  }
  const { host, port } = coordinator;
  return { host: host === SSH_CLIENT ? sshClient() : host, port };
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
