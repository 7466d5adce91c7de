/**
 * Owns `c100k-bench serve`: the built-in target in the foreground, its signals and its counts.
 * Must never accept a connection itself (serve/).
 */
import { isIP } from 'node:net';
import { readNumber } from '../../api/bounds.ts';
import type { FlagValues } from '../../api/flags/flag-values.ts';
import { ErrorCode, ExitCode, usageError } from '../../base/errors.ts';
import { bindToParent } from '../../engine/parent-bond.ts';
import { formatListening, type ServeHandle, serveTarget } from '../../serve/serve.ts';
import { formatServeCounts, SERVE_MODES } from '../../serve/serve-counts.ts';
import { type StatsServer, serveStats } from '../../serve/stats-server.ts';
import type { CommandContext } from '../command-context.ts';
import { tell, writeResult } from '../output.ts';

/**
 * Serves until SIGINT or SIGTERM; SIGUSR2 prints the counts.
 * @returns 0 after a signal, 4 when every worker was lost
 * @throws BenchError on wrong flags, or when it cannot listen
 */
export async function serveCommand({ values, entryPath, clock }: CommandContext): Promise<ExitCode> {
  // It outlives the shell it was typed in, but not as a stopped process that nobody continues.
  bindToParent('wake', null);
  const quiet = values.on('quiet');
  const handle = await serveTarget({
    host: values.one('host') ?? '127.0.0.1',
    port: readPort(values),
    mode: SERVE_MODES.find((mode) => mode === values.one('mode')) ?? 'hold',
    workers: readNumber(values, 'workers'),
    entryPath,
    clock,
    onNotice: tell,
  });
  const stats = await startStats(values, handle);
  if (!quiet) await writeResult(`${formatListening(handle)}\n`);
  if (stats !== null && !quiet) tell(`counts at http://${hostText(stats.address)}:${stats.port}/`);
  const signalled = await untilEnd(handle);
  const counts = await handle.stop();
  await stats?.close();
  await writeResult(`${formatServeCounts(counts)}\n`);
  return signalled ? ExitCode.held : ExitCode.incomplete;
}

function readPort(values: FlagValues): number {
  const text = values.one('port') ?? '8000';
  const port = /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN;
  if (port >= 0 && port <= 65_535) return port;
  throw usageError(
    ErrorCode.badPorts,
    `${values.origin('port')}: "${text}" is not a port`,
    'type --port 8000, or --port 0 for a free one',
  );
}

/** Where it tells its counts, if anywhere; what was started is stopped again when that cannot be. */
async function startStats(values: FlagValues, handle: ServeHandle): Promise<StatsServer | null> {
  const text = values.one('stats-listen');
  if (text === null) return null;
  const match = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<v4>[0-9.]+)):(?<port>\d{1,5})$/.exec(text);
  const host = match?.groups?.v6 ?? match?.groups?.v4 ?? '';
  const port = Number(match?.groups?.port ?? Number.NaN);
  try {
    if (isIP(host) === 0 || port > 65_535) {
      throw usageError(
        ErrorCode.badEndpoint,
        `${values.origin('stats-listen')}: "${text}" is not an address and a port`,
        'for example: --stats-listen 127.0.0.1:8001',
      );
    }
    return await serveStats(host, port, () => handle.counts());
  } catch (error) {
    await handle.stop();
    throw error;
  }
}

function hostText(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

/** Resolves true on SIGINT or SIGTERM, false when no worker is left. A second signal ends the process. */
async function untilEnd(handle: ServeHandle): Promise<boolean> {
  return await new Promise((resolve) => {
    let signals = 0;
    const onStop = (signal: NodeJS.Signals): void => {
      signals += 1;
      if (signals > 1) process.exit(signal === 'SIGTERM' ? ExitCode.terminated : ExitCode.interrupted);
      resolve(true);
    };
    process.on('SIGINT', onStop);
    process.on('SIGTERM', onStop);
    process.on('SIGUSR2', () => void printCounts(handle));
    void handle.ended.then(() => resolve(false));
  });
}

async function printCounts(handle: ServeHandle): Promise<void> {
  await writeResult(`${formatServeCounts(await handle.counts())}\n`);
}
