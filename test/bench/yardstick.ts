/**
 * Owns the C programs that measurements compare with: compiling them, running client and server.
 * Must never leave a process or a file behind.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What the C client says about one run. */
export interface ClientRun {
  readonly open: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
}

/** All programs, compiled into a temporary folder by the C compiler of this machine (`cc`). */
export class Yardstick {
  readonly #folder = mkdtempSync(join(tmpdir(), 'c100k-bench-'));

  /** @param sourceFolder where the .c files are */
  constructor(sourceFolder: string) {
    for (const name of ['yardstick-client', 'yardstick-messages', 'yardstick-server']) {
      const source = join(sourceFolder, `${name}.c`);
      execFileSync('cc', ['-O2', '-Wall', '-o', join(this.#folder, name), source], { stdio: 'inherit' });
    }
  }

  /** The path of one of them. */
  program(name: 'yardstick-messages'): string {
    return join(this.#folder, name);
  }

  /**
   * Starts a target of so many processes on a free port of 127.0.0.1.
   * @param isSilent it reads and says nothing; otherwise it echoes
   */
  async serve(processes: number, isSilent = false): Promise<YardstickServer> {
    // A group of its own, because the server ends its processes as a group.
    const child = spawn(
      join(this.#folder, 'yardstick-server'),
      [String(processes), ...(isSilent ? ['silent'] : [])],
      {
        detached: true,
        stdio: ['pipe', 'pipe', 'inherit'],
      },
    );
    const [line] = await once(child.stdout!, 'data');
    return new YardstickServer(child, Number(String(line)));
  }

  /** Opens connections with the C client and closes them again (it ends). */
  connect(port: number, connections: number, source: string, pendingMax: number): ClientRun {
    const args = [port, connections, source, 1_024, pendingMax].map(String);
    const run = JSON.parse(execFileSync(join(this.#folder, 'yardstick-client'), args, { encoding: 'utf8' }));
    assert.equal(run.open, connections, 'the C client opens them all');
    return run;
  }

  /**
   * Opens connections with several C clients at once, each from an address of its own, and closes them when all have opened theirs.
   * @param sources one for each client
   * @returns seconds until the last one was done, from each one's own first connect
   */
  async connectSeveral(
    port: number,
    connections: number,
    sources: readonly string[],
    pendingMax: number,
  ): Promise<number> {
    const runs = sources.map((source, index) => {
      const share =
        Math.floor((connections * (index + 1)) / sources.length) -
        Math.floor((connections * index) / sources.length);
      const args = [port, share, source, 1_024, Math.ceil(pendingMax / sources.length), 'hold'].map(String);
      const child = spawn(join(this.#folder, 'yardstick-client'), args, {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      return { child, share };
    });
    const seconds = await Promise.all(
      runs.map(async ({ child, share }) => {
        const [line] = await once(child.stdout!, 'data');
        const run = JSON.parse(String(line));
        assert.equal(run.open, share, 'the C client opens them all');
        return Number(run.seconds);
      }),
    );
    await Promise.all(
      runs.map(async ({ child }) => {
        const ended = once(child, 'exit');
        child.stdin!.end();
        await ended;
      }),
    );
    return Math.max(...seconds);
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** A running target; it ends with this process at the latest. */
export class YardstickServer {
  readonly port: number;
  readonly #child: ChildProcess;

  constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Connections that it has accepted since its start. */
  async accepted(): Promise<number> {
    const line = once(this.#child.stdout!, 'data');
    this.#child.stdin!.write('\n');
    return Number(String((await line)[0]));
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.stdin?.end();
    await ended;
  }
}
