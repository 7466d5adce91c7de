/**
 * Owns one forked holder as its agent sees it: what was sent, what came, how it ended.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AgentToHolder, HOLDER_EXEC_ARGV, type HolderToAgent } from '../../src/agent/process-pipe.ts';
import type { HolderSpec } from '../../src/run/run-spec.ts';
import type { HolderHealth, Stats } from '../../src/stats/stats.ts';
import { HANG_MS, settled } from '../support/waiting.ts';
import { HOLDER_ENTRY_PATH } from './holder-entry.ts';

/** Plays the agent towards one holder process. */
export class HolderProcess {
  readonly child: ChildProcess;
  readonly messages: HolderToAgent[] = [];
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  stats: Stats | null = null;
  health: HolderHealth | null = null;
  settled = false;
  readonly #waiting = new Set<() => void>();

  /** @param limits shell commands that come before the holder, such as `ulimit -n 60` */
  constructor(limits = '', execArgv: readonly string[] = HOLDER_EXEC_ARGV) {
    const command = [process.execPath, ...execArgv, HOLDER_ENTRY_PATH];
    this.child =
      limits === ''
        ? spawn(command[0]!, command.slice(1), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
        : spawn('sh', ['-c', `${limits}; exec "$0" "$@"`, ...command], {
            stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
          });
    this.exited = once(this.child, 'exit').then(([code, signal]) => ({ code, signal }));
    this.child.on('message', (message) => this.#take(message as HolderToAgent));
  }

  #take(message: HolderToAgent): void {
    this.messages.push(message);
    if (message.type === 'stats' || message.type === 'done') {
      this.stats = message.stats;
      this.health = message.health;
      this.settled = message.type === 'done' || message.settled;
    }
    for (const check of this.#waiting) check();
  }

  send(message: AgentToHolder): void {
    this.child.send(message);
  }

  /** Waits until a message makes `is` true. @param hangMs more than HANG_MS for what takes minutes, as a bench does */
  async until(what: string, is: () => boolean, hangMs = HANG_MS): Promise<void> {
    if (is()) return;
    const so = new Promise<void>((resolve) => {
      const check = (): void => {
        if (!is()) return;
        this.#waiting.delete(check);
        resolve();
      };
      this.#waiting.add(check);
    });
    await settled(what, so, hangMs);
  }

  has(type: HolderToAgent['type']): boolean {
    return this.messages.some((message) => message.type === type);
  }

  /** Sends the spec and waits for `ready`. */
  async prepare(spec: HolderSpec): Promise<void> {
    this.send({ type: 'open', spec });
    await this.until('the holder is ready', () => this.has('ready'));
  }

  /** Prepares, starts, and waits until nothing is left to open. */
  async open(spec: HolderSpec): Promise<Stats> {
    await this.prepare(spec);
    this.send({ type: 'start' });
    await this.until('the holder settles', () => this.settled);
    assert(this.stats !== null);
    return this.stats;
  }

  /** Asks for fresh stats. */
  async report(): Promise<{ stats: Stats; health: HolderHealth }> {
    const id = this.messages.length + 1;
    this.send({ type: 'report', id, wantsTuples: true });
    const isAnswer = (message: HolderToAgent): boolean => message.type === 'stats' && message.answers === id;
    await this.until('the holder reports', () => this.messages.some(isAnswer));
    return { stats: this.stats!, health: this.health! };
  }

  /** Asks it to close everything and waits for its end; the final stats. */
  async stop(): Promise<Stats> {
    this.send({ type: 'stop' });
    await this.until('the holder is done', () => this.has('done'));
    const { code } = await this.exited;
    assert.equal(code, 0, 'a holder that was told to stop ends with 0');
    return this.stats!;
  }
}
