/**
 * Owns `c100k-bench serve`: the built-in target in the foreground, its signals and its counts.
 * Must never accept a connection itself (serve/).
 */
import { ErrorCode, ExitCode, usageError } from '../core/errors.ts';
import { parseCount } from '../core/units.ts';
import { formatListening, type ServeHandle, serveTarget } from '../serve/serve.ts';
import { formatServeCounts } from '../serve/serve-counts.ts';
import type { CommandContext } from './cli.ts';
import type { FlagValues } from './command-line.ts';
import { tell, writeResult } from './output.ts';

/**
 * Serves until SIGINT or SIGTERM; SIGUSR2 prints the counts.
 * @returns 0 after a signal, 4 when every worker was lost
 * @throws BenchError on wrong flags, or when it cannot listen
 */
export async function serveCommand({ values, entryPath, clock }: CommandContext): Promise<ExitCode> {
  const quiet = values.on('quiet');
  const workers = values.one('workers');
  const handle = await serveTarget({
    host: values.one('host') ?? '127.0.0.1',
    port: readPort(values),
    mode: values.one('mode') === 'echo' ? 'echo' : 'hold',
    workers: workers === null ? null : parseCount(workers, values.origin('workers')),
    entryPath,
    clock,
    onNotice: tell,
  });
  if (!quiet) await writeResult(`${formatListening(handle)}\n`);
  const signalled = await untilEnd(handle);
  const counts = await handle.stop();
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
