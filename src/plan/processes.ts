/**
 * Owns what the processes of a run cost of the limit on tasks, and how a lack of them is told. Pure.
 * Must never read a limit (host/task-room.ts).
 */
import type { Finding } from '../base/finding.ts';
import { counted, formatCount } from '../base/units.ts';
import type { TaskRoom } from '../host/host-facts.ts';
import { holdersFor, type Shape } from './cost.ts';

/** Threads of one Node process: itself, V8's and libuv's pools, signals. Measured on Node 20: 11; a holder has 8. */
export const TASKS_PER_PROCESS = 11;
/** The agent, and `ip` or `ss` that it runs. */
export const TASKS_RESERVED = 16;

/** Tasks that holding so many connections takes. */
export function tasksNeeded(connections: number, shape: Shape): number {
  return connections <= 0 ? 0 : TASKS_RESERVED + holdersFor(connections, shape) * TASKS_PER_PROCESS;
}

/**
 * Whether there is room for the processes.
 * @param processes what is to be started, besides the agent
 * @param words what these processes are: `3 holders`
 * @param room null: no limit, or not known
 */
export function processesFinding(processes: number, words: string, room: TaskRoom | null): Finding {
  const needed = processes === 0 ? 0 : TASKS_RESERVED + processes * TASKS_PER_PROCESS;
  const common = { what: 'processes', unit: 'tasks', needed, available: room?.free ?? null };
  const arithmetic = `needs ${counted(needed, 'task')} (${words} x ${TASKS_PER_PROCESS} threads, ${TASKS_RESERVED} for the agent)`;
  if (room === null)
    return { ...common, severity: 'ok', message: `${arithmetic}; no limit is known`, fix: null };
  const has = `has ${formatCount(room.free)} (${room.by} ${formatCount(room.limit)} less ${formatCount(room.limit - room.free)} in use)`;
  const isShort = needed > room.free;
  return {
    ...common,
    severity: isShort ? 'refuse' : 'ok',
    message: `${arithmetic}, ${has}`,
    fix: isShort ? fixOf(room, room.limit - room.free + needed) : null,
  };
}

/** Whether there is room for the holders of a plan. */
export function holdersFinding(connections: number, shape: Shape, room: TaskRoom | null): Finding {
  const holders = holdersFor(connections, shape);
  return processesFinding(holders, counted(holders, 'holder'), room);
}

function fixOf({ by }: TaskRoom, limit: number): string {
  if (by === 'ulimit -u') return `sudo prlimit --pid $$ --nproc=${limit}:${limit}`;
  return `raise the limit on tasks to at least ${limit} (docker --pids-limit ${limit}, systemd TasksMax=${limit})`;
}
