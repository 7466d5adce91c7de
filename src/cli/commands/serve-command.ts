/**
 * Owns `c100k-bench serve`: the built-in target in the foreground, its signals and its counts.
 * Must never accept a connection itself (serve/).
 */

import { type FlagValues, flagValue } from '../../api/flags/flags.ts';
import { ExitCode } from '../../base/errors.ts';
import { bindToParent } from '../../engine/parent-bond.ts';
import { ownPackage } from '../../host/own-package.ts';
import { formatListening, type ServeHandle, serveTarget } from '../../serve/serve.ts';
import {
  formatLiveLine,
  formatServeCounts,
  formatServeTotals,
  type StatsServer,
  serveStats,
} from '../../serve/serve-counts.ts';
import { every, systemClock, type Timer } from '../../time/timer.ts';
import type { CommandContext } from '../command-line.ts';
import { tell, writeResult } from '../output.ts';

/**
 * Serves until SIGINT or SIGTERM; SIGUSR2 prints the counts.
 * @returns 0 after a signal, 4 when every worker was lost
 * @throws BenchError on wrong flags, or when it cannot listen
 */
export async function serveCommand({ values }: CommandContext): Promise<ExitCode> {
  // It outlives the shell it was typed in, but not as a stopped process that no shell continues.
  bindToParent('wake', null);
  const quiet = values.on('quiet');
  const live = quiet ? null : liveLine();
  const handle = await serveTarget({
    host: flagValue(values, 'host'),
    port: flagValue(values, 'port'),
    mode: flagValue(values, 'mode'),
    workers: flagValue(values, 'workers'),
    engine: flagValue(values, 'engine') ?? 'auto',
    entryPath: ownPackage().entryPath,
    clock: systemClock,
    onNotice: (line) => {
      live?.clear();
      tell(line);
    },
  });
  const stats = await startStats(values, handle);
  if (!quiet) await writeResult(`${formatListening(handle)}\n`);
  if (stats !== null && !quiet) tell(`counts at http://${hostText(stats.address)}:${stats.port}/`);
  if (!quiet) tell(`engine ${handle.engine.name}: ${handle.engine.why}`);
  live?.begin(handle);
  const signalled = await untilEnd(handle, live);
  live?.end();
  const counts = await handle.stop();
  await stats?.close();
  await writeResult(`${formatServeCounts(counts)}\n${formatServeTotals(counts)}\n`);
  return signalled ? ExitCode.held : ExitCode.incomplete;
}

/** Where it serves its counts, if anywhere; what was started is stopped again when that cannot be. */
async function startStats(values: FlagValues, handle: ServeHandle): Promise<StatsServer | null> {
  try {
    const address = flagValue(values, 'stats-listen');
    if (address === null) return null;
    return await serveStats(address.host, address.port, () => handle.counts());
  } catch (error) {
    await handle.stop();
    throw error;
  }
}

function hostText(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

/** Resolves true on SIGINT or SIGTERM, false when no worker is left. A second signal ends the process. */
async function untilEnd(handle: ServeHandle, live: LiveLine | null): Promise<boolean> {
  return await new Promise((resolve) => {
    let signals = 0;
    const onStop = (signal: NodeJS.Signals): void => {
      signals += 1;
      if (signals > 1) process.exit(signal === 'SIGTERM' ? ExitCode.terminated : ExitCode.interrupted);
      resolve(true);
    };
    process.on('SIGINT', onStop);
    process.on('SIGTERM', onStop);
    process.on('SIGUSR2', () => {
      live?.clear();
      void printCounts(handle);
    });
    void handle.ended.then(() => resolve(false));
  });
}

async function printCounts(handle: ServeHandle): Promise<void> {
  await writeResult(`${formatServeCounts(await handle.counts())}\n`);
}

/** How often a terminal sees what is held. */
const LIVE_EVERY_MS = 200;
/** The terminal echoes `^C` behind the line: if that wrapped, the line would stay behind. */
const CTRL_C_COLUMNS = 2;
/** From the beginning of the line on, what was there goes. */
const ERASE_LINE = '\r\u001b[K';

/** A line that is written again and again. */
interface LiveLine {
  begin(handle: ServeHandle): void;
  /** takes it away; it comes back by itself */
  clear(): void;
  end(): void;
}

/** The line that says what is held; null where stderr is no terminal that can erase one. */
function liveLine(): LiveLine | null {
  const { stderr } = process;
  if (stderr.isTTY !== true || process.env.TERM === 'dumb') return null;
  let timer: Timer | undefined;
  const clear = (): void => {
    if (timer !== undefined) stderr.write(ERASE_LINE);
  };
  return {
    begin: (handle) => {
      const draw = (): void => {
        const line = formatLiveLine(handle.latest(), (stderr.columns ?? 80) - CTRL_C_COLUMNS);
        stderr.write(`${ERASE_LINE}${line}`);
      };
      timer = every(LIVE_EVERY_MS, draw, { isUnref: true });
      draw();
    },
    clear,
    end: () => {
      timer?.cancel();
      clear();
      timer = undefined;
    },
  };
}
