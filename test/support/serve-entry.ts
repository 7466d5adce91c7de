/**
 * Owns a program that is the built-in target and nothing else, for tests: `serve-worker` is a worker, as in main.ts; a
 * JSON argument is a parent with these options. The parent prints one JSON line once it listens, one per notice, and
 * counts for each line on stdin; `stop` on stdin stops it.
 */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { formatListening, serveTarget } from '../../src/serve/serve.ts';
import { runServeWorker } from '../../src/serve/worker.ts';
import { systemClock } from '../../src/time/timer.ts';

/** The compiled path of this program, to fork. */
export const SERVE_ENTRY = fileURLToPath(import.meta.url);

function say(line: unknown): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function runParent(options: string): Promise<void> {
  const target = await serveTarget({
    ...JSON.parse(options),
    entryPath: SERVE_ENTRY,
    clock: systemClock,
    onNotice: (notice) => say({ notice }),
  });
  say({ listening: formatListening(target), port: target.port, pids: target.pids() });
  const lines = createInterface({ input: process.stdin });
  for await (const line of lines) {
    if (line === 'stop') {
      say({ stopped: await target.stop() });
      break;
    }
    say({ counts: await target.counts() });
  }
  // The end of a pipe that its writer keeps open would hold this process.
  process.stdin.destroy();
}

if (process.argv[1] === SERVE_ENTRY) {
  const [, , argument = ''] = process.argv;
  if (argument === 'serve-worker') runServeWorker();
  else await runParent(argument);
}
