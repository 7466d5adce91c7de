/**
 * Owns the addresses that one agent has added to its host: adding, renewing, noticing that one is gone, removing.
 * Must never remove an address that is not ours or that another living run uses, and never before the sockets are closed.
 *
 * Deleting an address under live connections is silent: both ends stay ESTABLISHED. So every source is looked for each
 * second, and a lost one is reported; it is not added again, because it was taken away on purpose.
 *
 * `ip` may take seconds on a busy host. So a look judges only what was noted before it began and has not changed since,
 * and renewals go by the clock: a third of a lifetime after the last one began, whatever the looks take.
 */

import { cidrContains } from '../base/address.ts';
import type { Clock } from '../base/clock.ts';
import { formatCount } from '../base/units.ts';
import type { RunProgram } from '../host/command.ts';
import { addressesHere, readAddressesNow } from '../host/ip-command.ts';
import { type Alias, aliasKey } from '../run/alias.ts';
import { every, systemClock, type Timer } from '../time/timer.ts';
import { type AliasRecords, withAddressLock } from './alias-records.ts';
import {
  type AliasFailure,
  addAliases,
  keysWithLifetime,
  removeAliases,
  removeLeftovers,
  renewAliases,
} from './aliases.ts';

const WATCH_EVERY_MS = 1_000;
/** Renewals per lifetime: two may fail. */
const RENEWALS_PER_LEASE = 3;
/** After this share of a lifetime what was there at the last look is renewed without a new one. */
const BLIND_SHARE = 0.6;

interface AliasLeaseOptions {
  readonly run: RunProgram;
  readonly records: AliasRecords;
  readonly leaseMs: number;
  /** default: this host's */
  readonly clock?: Pick<Clock, 'monotonicMs'>;
  /** which addresses are there, for when `ip` cannot say; default: this host's */
  readonly addressesHere?: () => ReadonlySet<string>;
  /** sources that are no longer on this host, once each */
  readonly onLost: (addresses: readonly string[]) => void;
}

/** One alias that we hold. A new object for each time that it is added, so that a look knows the one that it began with. */
interface Holding {
  readonly alias: Alias;
  /** `ip` is adding it now: that a look does not see it means nothing */
  isAdding: boolean;
}

interface Acquired {
  readonly failed: readonly AliasFailure[];
  /** one line each, for a person */
  readonly notes: readonly string[];
}

/** The aliases of one run on one host. */
export class AliasLease {
  readonly #options: AliasLeaseOptions;
  /** added by us, or shared with another run of ours: renewed, and removed when no other run needs them */
  readonly #held = new Map<string, Holding>();
  /** no longer held and not yet removed: still in the record */
  readonly #leaving = new Map<string, Alias>();
  /** what must stay on the host, and which sources stop working without it */
  #watched = new Map<string, readonly string[]>();
  #timer: Timer | null = null;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  /** when the last renewal of everything that was held began; before the first one, when the first alias was added */
  #renewedAtMs = 0;
  /** what the last look saw of what we hold, and what was added since */
  #seen: readonly Holding[] = [];
  /** by key: addresses that Node listed, too, when they were first watched; of a device that is not up it lists none */
  #listed: ReadonlyMap<string, string> = new Map();
  /** the look that is going on */
  #look: Promise<void> | null = null;
  #released: Promise<readonly string[]> | null = null;

  constructor(options: AliasLeaseOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Aliases that this run holds, its share in those of another run included. */
  get held(): readonly Alias[] {
    return [...this.#held.values()].map(({ alias }) => alias);
  }

  #writeRecord(): boolean {
    return this.#options.records.write([...this.held, ...this.#leaving.values()]);
  }

  #addressesHere(): ReadonlySet<string> {
    return (this.#options.addressesHere ?? addressesHere)();
  }

  get #leaseSec(): number {
    return Math.ceil(this.#options.leaseMs / 1_000);
  }

  /**
   * Adds what is missing. What dead runs left is removed first; an address that another living run of ours added is
   * shared: both renew it, and the last one removes it. An address that is not ours is used and stays.
   */
  acquire(wanted: readonly Alias[]): Promise<Acquired> {
    if (wanted.length === 0) return Promise.resolve({ failed: [], notes: [] });
    return withAddressLock((isLocked) => this.#acquire(wanted, isLocked));
  }

  async #acquire(wanted: readonly Alias[], isLocked: boolean): Promise<Acquired> {
    const { run, records } = this.#options;
    const notes = isLocked
      ? []
      : ['another program keeps the lock for changing addresses: gone on without it'];
    const refused = (why: string): Acquired => ({ failed: wanted.map((alias) => ({ alias, why })), notes });
    const { removed } = await removeLeftovers(run, records, false);
    if (removed.length > 0)
      notes.push(`removed ${formatCount(removed.length)} aliases that a crashed run had left`);
    const now = await readAddressesNow(run);
    if (now === null) return refused('ip is missing');
    // The run ended meanwhile: what is added now would not be removed. From here to the notes nothing is waited for.
    if (this.#isReleased) return refused('the run has ended');
    const present = new Set(now.addresses.map(aliasKey));
    const ofOthers = this.#keysOfOthers();
    const toAdd = wanted.filter((alias) => !present.has(aliasKey(alias)));
    const toShare = wanted.filter((alias) => present.has(aliasKey(alias)) && ofOthers.has(aliasKey(alias)));
    if (this.#held.size === 0) this.#renewedAtMs = this.#clock.monotonicMs();
    for (const alias of toShare) this.#held.set(aliasKey(alias), { alias, isAdding: false });
    const adding = toAdd.map((alias): Holding => ({ alias, isAdding: true }));
    for (const holding of adding) this.#held.set(aliasKey(holding.alias), holding);
    // The record comes first: a crash from here on leaves no address without a record.
    if (!this.#writeRecord()) {
      notes.push(
        'no record of the aliases can be written below /run: after a crash only their lifetime removes them',
      );
    }
    const { present: raced, failed } = await addAliases(run, toAdd, this.#leaseSec);
    for (const alias of [...raced, ...failed.map((failure) => failure.alias)])
      this.#held.delete(aliasKey(alias));
    for (const holding of adding) holding.isAdding = false;
    await renewAliases(run, toShare, this.#leaseSec);
    this.#seen = [...this.#held.values()];
    this.#writeRecord();
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
    const listing = this.#addressesHere();
    const wanted = new Set(sources);
    const watched = new Map<string, string[]>();
    const listed = new Map<string, string>();
    const seen = new Set<string>();
    for (const address of now?.addresses ?? this.held) {
      if (listing.has(address.address)) listed.set(aliasKey(address), address.address);
      if (!wanted.has(address.address)) continue;
      watched.set(aliasKey(address), [address.address]);
      seen.add(address.address);
    }
    this.#listed = listed;
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
    this.#timer ??= every(WATCH_EVERY_MS, () => this.#tick());
  }

  /** Each second, unless the look before is still going on. */
  #tick(): void {
    this.#look ??= this.#lookOnce().finally(() => {
      this.#look = null;
    });
  }

  /** Who is gone? And after a third of a lifetime: renew those that are there. */
  async #lookOnce(): Promise<void> {
    const held = [...this.#held.values()].filter((holding) => !holding.isAdding);
    const watched = this.#watched;
    const now = await readAddressesNow(this.#options.run);
    if (this.#isReleased) return;
    if (now === null) {
      this.#lookWithoutIp(watched);
      // One blind renewal is better than to lose every source: it can bring back only what was there at the last look.
      if (this.#isDue(BLIND_SHARE)) await this.#renew(this.#seen);
      return;
    }
    // One that has no lifetime any more is another program's: it was made permanent, or deleted and added for ever.
    const ours = keysWithLifetime(now.addresses);
    const isThere = ({ alias }: Holding): boolean => ours.has(aliasKey(alias));
    this.#seen = held.filter(isThere);
    this.#forget(held.filter((holding) => !isThere(holding)));
    if (watched === this.#watched) this.#tellLost(new Set(now.addresses.map(aliasKey)));
    if (this.#isDue(1 / RENEWALS_PER_LEASE)) await this.#renew(this.#seen);
  }

  /** Where the renewals fail, too, the lifetime of our aliases has an end, and with it their connections. */
  #lookWithoutIp(watched: ReadonlyMap<string, readonly string[]>): void {
    const listing = this.#addressesHere();
    const gone = new Set(
      [...this.#listed].filter(([, address]) => !listing.has(address)).map(([key]) => key),
    );
    const isGone = ({ alias }: Holding): boolean => gone.has(aliasKey(alias));
    this.#forget(this.#seen.filter(isGone));
    this.#seen = this.#seen.filter((holding) => !isGone(holding));
    if (watched === this.#watched)
      this.#tellLost(new Set([...watched.keys()].filter((key) => !gone.has(key))));
  }

  /** @param share of a lifetime that has passed since the last renewal began */
  #isDue(share: number): boolean {
    return this.#clock.monotonicMs() - this.#renewedAtMs >= this.#options.leaseMs * share;
  }

  /** `ip addr change` adds an address that is not there: only for those that were just seen and are still held. */
  async #renew(seen: readonly Holding[]): Promise<void> {
    const beganMs = this.#clock.monotonicMs();
    const aliases = seen.filter((holding) => this.#isHeld(holding)).map(({ alias }) => alias);
    const failed = await renewAliases(this.#options.run, aliases, this.#leaseSec);
    if (failed.length === 0) this.#renewedAtMs = beganMs;
  }

  /** Whether it is still the same one: it may have been given back, and added anew. */
  #isHeld(holding: Holding): boolean {
    return this.#held.get(aliasKey(holding.alias)) === holding;
  }

  #forget(gone: readonly Holding[]): void {
    for (const holding of gone) if (this.#isHeld(holding)) this.#held.delete(aliasKey(holding.alias));
    // Another run that adds it anew would take it for shared, and leave it.
    if (gone.length > 0) this.#writeRecord();
  }

  #tellLost(present: ReadonlySet<string>): void {
    const lost: string[] = [];
    for (const [key, sources] of this.#watched) {
      if (present.has(key)) continue;
      this.#watched.delete(key);
      lost.push(...sources);
    }
    if (lost.length > 0) this.#options.onLost(lost);
  }

  /** Removes some of what we hold before the run begins, because it does not work. */
  async give(aliases: readonly Alias[]): Promise<void> {
    await this.#removeSoon(() => aliases.filter((alias) => this.#held.has(aliasKey(alias))));
  }

  /**
   * Removes everything that we hold and no other run uses. Every socket bound to it must be closed by now. Who asks again
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
    const failed = await this.#removeSoon(() => this.held);
    const [first] = failed;
    if (first === undefined) return [];
    return [
      `${formatCount(failed.length)} aliases could not be removed (${aliasKey(first.alias)}: ${first.why}): ` +
        `the kernel removes them within ${this.#leaseSec} s`,
    ];
  }

  /**
   * No look may renew what is being removed: renewing would add it again.
   * @param pick called under the lock: what is being added until then may turn out to be another run's
   */
  #removeSoon(pick: () => readonly Alias[]): Promise<AliasFailure[]> {
    return withAddressLock(async () => {
      const aliases = pick();
      if (aliases.length === 0) return [];
      for (const alias of aliases) {
        this.#held.delete(aliasKey(alias));
        this.#leaving.set(aliasKey(alias), alias);
      }
      await this.#look;
      return await this.#remove(aliases);
    });
  }

  async #remove(aliases: readonly Alias[]): Promise<AliasFailure[]> {
    const ofOthers = this.#keysOfOthers();
    const now = await readAddressesNow(this.#options.run);
    const ours = now === null ? null : keysWithLifetime(now.addresses);
    const isThere = (alias: Alias): boolean => ours?.has(aliasKey(alias)) !== false;
    const alone = aliases.filter((alias) => !ofOthers.has(aliasKey(alias)) && isThere(alias));
    const failed = await removeAliases(this.#options.run, alone);
    for (const alias of aliases) this.#leaving.delete(aliasKey(alias));
    this.#writeRecord();
    return failed;
  }
}

/** Those of the addresses that are in an alias's IPv4 network. */
function within(alias: Alias, addresses: readonly string[]): string[] {
  return addresses.filter((address) => cidrContains(`${alias.address}/${alias.prefix}`, address));
}
