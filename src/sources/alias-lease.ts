/**
 * Owns the addresses that one agent has added to its host: adding, renewing, noticing that one is gone, removing.
 * Must never remove an address that is not ours or that another living run uses, and never before the sockets are closed.
 *
 * Deleting an address under live connections is silent: both ends stay ESTABLISHED. So every source is looked for each
 * second, and a lost one is told; it is not added again, because somebody took it away on purpose.
 */

import { formatCount } from '../base/units.ts';
import type { RunCommand } from '../host/command.ts';
import { type Alias, aliasKey } from '../run/alias.ts';
import { every, type Timer } from '../time/timer.ts';
import { withAddressLock } from './address-lock.ts';
import { removeLeftovers } from './alias-cleanup.ts';
import type { AliasRecords } from './alias-records.ts';
import {
  type AliasFailure,
  addAliases,
  type PresentAddress,
  readAddressesNow,
  removeAliases,
  renewAliases,
} from './aliases.ts';

const WATCH_EVERY_MS = 1_000;
/** Renewals per lifetime: two may fail. */
const RENEWALS_PER_LEASE = 3;

export interface AliasLeaseOptions {
  readonly run: RunCommand;
  readonly records: AliasRecords;
  readonly leaseMs: number;
  /** sources that are no longer on this host, once each */
  readonly onLost: (addresses: readonly string[]) => void;
}

export interface Acquired {
  readonly failed: readonly AliasFailure[];
  /** one line each, for a person */
  readonly notes: readonly string[];
}

/** The aliases of one run on one host. */
export class AliasLease {
  readonly #options: AliasLeaseOptions;
  /** added by us, or shared with another run of ours: renewed, and removed when nobody else needs them */
  readonly #held = new Map<string, Alias>();
  /** what must stay on the host, and which sources stop working without it */
  #watched = new Map<string, readonly string[]>();
  #timer: Timer | null = null;
  #ticks = 0;
  #isLooking = false;
  #released: Promise<readonly string[]> | null = null;

  constructor(options: AliasLeaseOptions) {
    this.#options = options;
  }

  /** Aliases that this run holds, its share in those of another run included. */
  get held(): readonly Alias[] {
    return [...this.#held.values()];
  }

  get #leaseSec(): number {
    return Math.ceil(this.#options.leaseMs / 1_000);
  }

  /**
   * Adds what is missing. What dead runs left is removed first; an address that another living run of ours added is
   * shared: both renew it, and the last one removes it. An address of somebody else is used and stays.
   */
  acquire(wanted: readonly Alias[]): Promise<Acquired> {
    if (wanted.length === 0) return Promise.resolve({ failed: [], notes: [] });
    return withAddressLock((isLocked) => this.#acquire(wanted, isLocked));
  }

  async #acquire(wanted: readonly Alias[], isLocked: boolean): Promise<Acquired> {
    const { run, records } = this.#options;
    // The run ended meanwhile: what is added now nobody would remove.
    if (this.#isReleased)
      return { failed: wanted.map((alias) => ({ alias, why: 'the run has ended' })), notes: [] };
    const notes = isLocked
      ? []
      : ['another program keeps the lock for changing addresses: gone on without it'];
    const { removed } = await removeLeftovers(run, records, false);
    if (removed.length > 0)
      notes.push(`removed ${formatCount(removed.length)} aliases that a crashed run had left`);
    const now = await readAddressesNow(run);
    if (now === null) return { failed: wanted.map((alias) => ({ alias, why: 'ip is missing' })), notes };
    const present = new Set(now.addresses.map(aliasKey));
    const ofOthers = this.#keysOfOthers();
    const toAdd = wanted.filter((alias) => !present.has(aliasKey(alias)));
    const toShare = wanted.filter((alias) => present.has(aliasKey(alias)) && ofOthers.has(aliasKey(alias)));
    for (const alias of [...toAdd, ...toShare]) this.#held.set(aliasKey(alias), alias);
    // The record comes first: a crash from here on leaves no address that nobody knows.
    if (!records.write(this.held)) {
      notes.push(
        'no record of the aliases can be written below /run: after a crash only their lifetime removes them',
      );
    }
    const { present: raced, failed } = await addAliases(run, toAdd, this.#leaseSec);
    for (const alias of [...raced, ...failed.map((failure) => failure.alias)])
      this.#held.delete(aliasKey(alias));
    await renewAliases(run, toShare, this.#leaseSec);
    records.write(this.held);
    this.#startTimer();
    return { failed, notes };
  }

  #keysOfOthers(): Set<string> {
    const others = this.#options.records.read().filter((record) => record.isAlive && !record.isMine);
    return new Set(others.flatMap((record) => record.aliases.map(aliasKey)));
  }

  /**
   * From now on these sources are looked for each second.
   * @param sources addresses of the run; those on no device of their own (an AnyIP network) follow its alias
   */
  async watch(sources: readonly string[]): Promise<void> {
    const now = await readAddressesNow(this.#options.run);
    if (now === null) return;
    const wanted = new Set(sources);
    const watched = new Map<string, string[]>();
    const seen = new Set<string>();
    for (const address of now.addresses) {
      if (!wanted.has(address.address)) continue;
      watched.set(aliasKey(address), [address.address]);
      seen.add(address.address);
    }
    const rest = sources.filter((source) => !seen.has(source) && !source.startsWith('127.'));
    for (const alias of this.held) {
      const isNetwork = alias.family === 4 && alias.prefix < 32;
      if (isNetwork)
        watched.set(aliasKey(alias), [...(watched.get(aliasKey(alias)) ?? []), ...within(alias, rest)]);
    }
    this.#watched = watched;
    if (watched.size > 0) this.#startTimer();
  }

  #startTimer(): void {
    if (this.#isReleased) return;
    this.#timer ??= every(WATCH_EVERY_MS, () => void this.#tick());
  }

  /** Each second: who is gone? Every third of a lifetime: renew those that are there. */
  async #tick(): Promise<void> {
    this.#ticks += 1;
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      const now = await readAddressesNow(this.#options.run);
      if (now === null || this.#isReleased) return;
      this.#tellLost(now.addresses);
      const every = Math.max(1, Math.floor(this.#leaseSec / RENEWALS_PER_LEASE));
      // `ip addr change` adds an address that is not there: only those that were just seen are renewed.
      if (this.#ticks % every === 0) await renewAliases(this.#options.run, this.held, this.#leaseSec);
    } finally {
      this.#isLooking = false;
    }
  }

  #tellLost(addresses: readonly PresentAddress[]): void {
    const present = new Set(addresses.map(aliasKey));
    const lost: string[] = [];
    for (const [key, sources] of this.#watched) {
      if (present.has(key)) continue;
      this.#watched.delete(key);
      lost.push(...sources);
    }
    for (const key of [...this.#held.keys()]) if (!present.has(key)) this.#held.delete(key);
    if (lost.length > 0) this.#options.onLost(lost);
  }

  /** Removes some of what we hold before the run begins, because it does not work. */
  async give(aliases: readonly Alias[]): Promise<void> {
    const some = aliases.filter((alias) => this.#held.has(aliasKey(alias)));
    if (some.length > 0) await withAddressLock(() => this.#remove(some));
  }

  /**
   * Removes everything that we hold and nobody else uses. Every socket bound to it must be closed by now. Who asks again
   * waits for the same removal: the end of a run must not overtake that of a refusal.
   * @returns lines for a person about what could not be removed
   */
  release(): Promise<readonly string[]> {
    this.#released ??= this.#releaseAll();
    return this.#released;
  }

  get #isReleased(): boolean {
    return this.#released !== null;
  }

  async #releaseAll(): Promise<readonly string[]> {
    this.#timer?.cancel();
    if (this.#held.size === 0) return [];
    const failed = await withAddressLock(() => this.#remove(this.held));
    const [first] = failed;
    if (first === undefined) return [];
    return [
      `${formatCount(failed.length)} aliases could not be removed (${aliasKey(first.alias)}: ${first.why}): ` +
        `the kernel removes them within ${this.#leaseSec} s`,
    ];
  }

  async #remove(aliases: readonly Alias[]): Promise<AliasFailure[]> {
    const ofOthers = this.#keysOfOthers();
    const alone = aliases.filter((alias) => !ofOthers.has(aliasKey(alias)));
    const failed = await removeAliases(this.#options.run, alone);
    for (const alias of aliases) this.#held.delete(aliasKey(alias));
    this.#options.records.write(this.held);
    return failed;
  }
}

/** The addresses of one IPv4 network. */
function within(alias: Alias, addresses: readonly string[]): string[] {
  const numberOf = (address: string): number =>
    address.split('.').reduce((value, part) => value * 256 + Number(part), 0);
  const size = 2 ** (32 - alias.prefix);
  const network = Math.floor(numberOf(alias.address) / size);
  return addresses.filter(
    (address) => !address.includes(':') && Math.floor(numberOf(address) / size) === network,
  );
}
