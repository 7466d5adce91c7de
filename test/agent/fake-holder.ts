/**
 * Owns a holder that misbehaves, for tests of the pool: it says what a holder says, and does what its id names.
 *
 *   deaf    never says done, never ends
 *   lingers says done, never ends
 *   mute    never says ready; so do the holders of an agent of that name
 *   fails   says why it cannot, and ends
 *   nonsense, half  say what no holder says, in place of stats
 *   late    has stats on their way when it is asked for some, and answers a while later
 */
import { fileURLToPath } from 'node:url';
import type { AgentToHolder, HolderToAgent } from '../../src/agent/process-pipe.ts';
import { emptyStats, type HolderHealth, newHolderHealth } from '../../src/stats/stats.ts';

/** The compiled path of this program, to fork. */
export const FAKE_HOLDER_ENTRY = fileURLToPath(import.meta.url);

function say(message: HolderToAgent): void {
  process.send?.(message);
}

function health(id: string): HolderHealth {
  return newHolderHealth(id, process.pid, 0);
}

function sayStats(id: string, open: number, answers: number | null): void {
  const rest = { settled: true, openTuples: null, begun: true, ramp: null };
  say({ type: 'stats', stats: { ...emptyStats(), open }, health: health(id), answers, ...rest });
}

function misbehave(): void {
  let id = '';
  // Nothing but SIGKILL ends it, not even the end of its pipe.
  setInterval(() => {}, 1_000);
  process.on('message', (message: AgentToHolder) => {
    if (message.type === 'open') {
      id = message.spec.id;
      if (id === 'fails') {
        say({ type: 'failed', message: 'no epoll' });
        setTimeout(() => process.exit(1), 50);
      } else if (id.split('/')[0] !== 'mute') say({ type: 'ready' });
    }
    if (message.type === 'report' && id === 'late') {
      sayStats(id, 1, null);
      setTimeout(() => sayStats(id, 2, message.id), 200);
    }
    if (message.type === 'start' && id === 'nonsense') process.send?.('what is this');
    if (message.type === 'start' && id === 'half') process.send?.({ type: 'stats', stats: { open: 1 } });
    if (message.type === 'stop' && id === 'lingers') {
      say({ type: 'done', stats: { ...emptyStats(), closed: 7 }, health: health(id), ramp: null });
    }
  });
}

if (process.argv[1] === FAKE_HOLDER_ENTRY) misbehave();
