/**
 * Owns the addresses of a simulated host: what `ip` makes of them, lifetimes on the virtual clock, and the records and the lock of
 * those who change them. Must never know what a run wants (sources/).
 */
import type { RunProgram } from '../../src/host/command.ts';
import type { Alias } from '../../src/run/alias.ts';
import { type FakeAddress, FakeIp } from '../host/fake-ip.ts';
import type { SimProcess } from './virtual-time.ts';

type Result = Awaited<ReturnType<RunProgram>>;

/** How `ip` answers: as it should, slowly, not as root, or it is not there. */
export type IpMood = 'well' | 'slow' | 'forbidden' | 'missing';

const STOPPED: Result = { code: null, stdout: '', stderr: '', missing: false, truncated: false };
const FORBIDDEN: Result = { ...STOPPED, code: 2, stderr: 'RTNETLINK answers: Operation not permitted\n' };
const MISSING: Result = { ...STOPPED, missing: true };
/** A look takes a moment; a slow one up to twice as long as it is waited for. */
const ANSWER_MS_MAX = 30;
const SLOW_MS_MAX = 10_000;

/** What `ip` needs of the world. */
interface IpWorld {
  nowMs(): number;
  random(from: number, to: number): number;
  sleep(ms: number): Promise<void>;
  /** an address is gone from the host: is something still bound to it? */
  onRemoved(address: string, byProgram: boolean, isOurs: boolean): void;
}

/** The addresses of one host. */
export class SimIp {
  mood: IpMood = 'well';
  /** what it has said may have been another program's since */
  wasSlow = false;
  /** by the process that wrote it */
  readonly records = new Map<SimProcess, readonly Alias[]>();
  /** whose turn it is to change addresses */
  lockedBy: SimProcess | null = null;
  /** addresses that another host of the segment has too: it answers for them */
  readonly answeredElsewhere = new Set<string>();
  /** by another program, for ever */
  readonly #foreign = new Set<string>();
  /** anything but what the host began with is there, or was */
  isChanged = false;
  readonly #world: IpWorld;
  readonly #fake = new FakeIp([
    { local: '127.0.0.1', prefixlen: 8, device: 'lo', validSec: null },
    { local: '192.168.0.101', prefixlen: 24, device: 'eth0', validSec: null },
  ]);
  readonly #untilMs = new Map<FakeAddress, number>();

  constructor(world: IpWorld) {
    this.#world = world;
  }

  /** As src/host/command.ts runs a program. */
  readonly run: RunProgram = async (file, args, { timeoutMs, ...options }) => {
    const takesMs = this.#world.random(0, this.mood === 'slow' ? SLOW_MS_MAX : ANSWER_MS_MAX);
    await this.#world.sleep(Math.min(takesMs, timeoutMs));
    if (this.mood === 'missing') return MISSING;
    if (takesMs > timeoutMs) return STOPPED;
    if (file === 'arping') return this.#arping(args.at(-1) ?? '');
    if (this.mood === 'forbidden' && !args.includes('-j')) return FORBIDDEN;
    this.#expire();
    const isLook = args.includes('-j');
    const before = isLook ? [] : [...this.#fake.addresses];
    const result = await this.#fake.run(file, args, { timeoutMs, ...options });
    if (isLook) return result;
    this.isChanged = true;
    this.#expire();
    for (const { local } of before) if (!this.#isThere(local)) this.#removed(local, true);
    return result;
  };

  /** `-D`: does another host have it? */
  #arping(address: string): Result {
    if (!this.answeredElsewhere.has(address)) return { ...STOPPED, code: 0 };
    return { ...STOPPED, code: 1, stdout: `Unicast reply from ${address} [02:00:00:00:00:01]  0.8ms\n` };
  }

  #isThere(address: string): boolean {
    return this.#fake.addresses.some(({ local }) => local === address);
  }

  #removed(address: string, byProgram: boolean): void {
    const isOurs = !this.#foreign.delete(address);
    this.#world.onRemoved(address, byProgram, isOurs);
  }

  #added(): FakeAddress[] {
    return this.#fake.addresses.filter(({ validSec }) => validSec !== null);
  }

  /** The kernel's part. Renewing makes a new record of an address. */
  #expire(): void {
    const { addresses } = this.#fake;
    const nowMs = this.#world.nowMs();
    for (const address of this.#added()) {
      const untilMs = this.#untilMs.get(address) ?? nowMs + (address.validSec ?? 0) * 1_000;
      this.#untilMs.set(address, untilMs);
      if (nowMs < untilMs) continue;
      addresses.splice(addresses.indexOf(address), 1);
      this.#untilMs.delete(address);
      this.#removed(address.local, false);
    }
  }

  has(address: string): boolean {
    if (address.startsWith('127.')) return true;
    this.#expire();
    return this.#isThere(address);
  }

  /** Addresses that are there because of a run. */
  get aliases(): readonly string[] {
    this.#expire();
    return this.#added().map(({ local }) => local);
  }

  /** Another program deletes one that a run has added. @returns which; null: there is none */
  delete(): string | null {
    const [address] = this.#added();
    if (address === undefined) return null;
    this.#fake.addresses.splice(this.#fake.addresses.indexOf(address), 1);
    this.#removed(address.local, false);
    return address.local;
  }

  /** Another program adds an address, for ever: it is not a run's to remove. */
  addForeign(local: string): void {
    if (this.#isThere(local)) return;
    this.isChanged = true;
    this.#foreign.add(local);
    this.#fake.addresses.push({ local, prefixlen: 32, device: 'eth0', validSec: null });
  }
}
