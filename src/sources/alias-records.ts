/**
 * Owns the record of which addresses are ours: one small file per agent under /run/c100k-bench, named after its process.
 * Must never touch an address.
 *
 * A record is written before the address is added and erased after it is removed, so a crash can leave a record without
 * an address, never an address without a record. Who reads a record trusts it only for its own network namespace and
 * boot, and asks the kernel whether the process that wrote it still lives: process ids are used again, so the time at
 * which the process started is compared too.
 *
 * What a record says is removed by root: so the folder is ours alone (owner, mode 0700, no link), or it is not used, and so
 * is each record in it; and so is the lock that all who change addresses take. What lies there otherwise - a pipe, a link, a huge file, garbage - is passed over, and holds up no run.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  realpathSync,
  unlinkSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { basename, join } from 'node:path';
import { ADDRESSES_MAX, isAddress, parseAddress } from '../base/address.ts';
import { writeWholeFile } from '../host/output-file.ts';
import { readText } from '../host/proc-file.ts';
import { type Alias, DEVICE_NAME_PATTERN } from '../run/alias.ts';
import { realWaiting, systemClock, type Waiting, waitUntil } from '../time/timer.ts';

/** A tmpfs on every Linux that systemd, OpenRC or a container runtime starts: empty after a boot. */
const FOLDER_DEFAULT = '/run/c100k-bench';

const RECORD_VERSION = 1;
const RECORD_NAME_PATTERN = /^\d{1,10}-\d{1,20}\.json$/;
/** 65,536 aliases with the longest addresses and names make less. */
const RECORD_BYTES_MAX = 16 * 1024 * 1024;
/** More agents than this on one host do not live at the same time. */
const RECORDS_MAX = 4_096;

const FOLDER_MODE = 0o700;
const RECORD_MODE = 0o600;
const OF_OTHERS = 0o077;
/** Bits of a namespace link and of the boot's id. */
const TEXT_CHARS_MAX = 64;

/** One agent's record. */
export interface AliasRecord {
  readonly path: string;
  readonly pid: number;
  readonly aliases: readonly Alias[];
  /** whether the agent that wrote it still lives, or cannot be known to be dead */
  readonly isAlive: boolean;
  /** written by this process */
  readonly isMine: boolean;
}

interface Owner {
  readonly pid: number;
  readonly startTime: string;
  readonly bootId: string;
  /** network and process namespaces, as their links read */
  readonly netns: string;
  readonly pidns: string;
}

interface AliasRecordsOptions {
  /** default `/run/c100k-bench` */
  readonly folder?: string;
  /** default `/proc` */
  readonly procRoot?: string;
  /** default: this process */
  readonly pid?: number;
}

/** The records of this host, as one process sees them. */
export class AliasRecords {
  readonly #folder: string;
  readonly #procRoot: string;
  readonly #me: Owner;

  constructor(options: AliasRecordsOptions = {}) {
    this.#folder = options.folder ?? FOLDER_DEFAULT;
    this.#procRoot = options.procRoot ?? '/proc';
    const pid = options.pid ?? process.pid;
    this.#me = {
      pid,
      startTime: startTimeOf(this.#procRoot, pid) ?? '0',
      bootId: (readText(this.#procRoot, 'sys/kernel/random/boot_id') ?? '').trim(),
      netns: this.#namespace('net'),
      pidns: this.#namespace('pid'),
    };
  }

  get #myPath(): string {
    return join(this.#folder, `${this.#me.pid}-${this.#me.startTime}.json`);
  }

  /**
   * Writes what this process has added or is about to add; nothing: erases the record.
   * @returns whether it could be written: a host without a writable /run has only lifetimes to rely on
   */
  write(aliases: readonly Alias[]): boolean {
    if (aliases.length === 0) return this.erase(this.#myPath);
    try {
      try {
        mkdirSync(this.#folder, { mode: FOLDER_MODE });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      if (!isOurFolder(this.#folder)) return false;
      const text = JSON.stringify({ version: RECORD_VERSION, ...this.#me, aliases });
      writeWholeFile({ folder: realpathSync(this.#folder), name: basename(this.#myPath) }, text, {
        mode: RECORD_MODE,
      });
      return true;
    } catch {
      return false;
    }
  }

  /** Erases a record; one that is gone already is fine. */
  erase(path: string): boolean {
    try {
      unlinkSync(path);
      return true;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ENOENT';
    }
  }

  /** The folder, when it is there and not ours alone: then nothing in it is believed, and nothing is recorded. */
  get foreignFolder(): string | null {
    try {
      return isOurFolder(this.#folder) ? null : this.#folder;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ENOENT' ? null : this.#folder;
    }
  }

  /** The records of this network namespace since this boot, our own included. A file that is no record is passed over. */
  read(): AliasRecord[] {
    let names: string[];
    try {
      if (!isOurFolder(this.#folder)) return [];
      names = readdirSync(this.#folder)
        .filter((name) => RECORD_NAME_PATTERN.test(name))
        .slice(0, RECORDS_MAX);
    } catch {
      return [];
    }
    return names.flatMap((name) => {
      const path = join(this.#folder, name);
      const parsed = parseRecord(path);
      if (parsed === null || `${parsed.owner.pid}-${parsed.owner.startTime}.json` !== name) return [];
      if (parsed.owner.netns !== this.#me.netns || parsed.owner.bootId !== this.#me.bootId) return [];
      return [{ path, pid: parsed.owner.pid, aliases: parsed.aliases, ...this.#lifeOf(parsed.owner) }];
    });
  }

  #lifeOf(owner: Owner): Pick<AliasRecord, 'isAlive' | 'isMine'> {
    // Another process namespace numbers its processes differently: none of them can be asked about.
    if (owner.pidns !== this.#me.pidns) return { isAlive: true, isMine: false };
    const isMine = owner.pid === this.#me.pid && owner.startTime === this.#me.startTime;
    return { isAlive: startTimeOf(this.#procRoot, owner.pid) === owner.startTime, isMine };
  }

  #namespace(name: string): string {
    try {
      return readlinkSync(join(this.#procRoot, 'self/ns', name));
    } catch {
      return 'unknown';
    }
  }
}

/**
 * When a process started, in clock ticks since boot: field 22 of /proc/<pid>/stat (proc(5)).
 * @returns null for one that is gone, or dead and not yet collected by its parent
 */
function startTimeOf(procRoot: string, pid: number): string | null {
  const text = readText(procRoot, `${pid}/stat`);
  // The second field is the program's name in brackets and may itself hold blanks and brackets.
  const fields = text?.slice(text.lastIndexOf(')') + 2).split(' ') ?? [];
  const [state = 'X'] = fields;
  return state === 'Z' || state === 'X' ? null : (fields[19] ?? null);
}

/** Whether a folder is ours alone. One of ours that others may read, as earlier versions made it, is closed to them. */
function isOurFolder(path: string): boolean {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    const { uid, mode } = fstatSync(fd);
    if (uid !== process.geteuid?.()) return false;
    // A volume of Kubernetes comes open to all users.
    if ((mode & OF_OTHERS) !== 0) fchmodSync(fd, FOLDER_MODE);
    return true;
  } finally {
    closeSync(fd);
  }
}

/** The text of a record that we wrote ourselves; null: it is something else. */
function readRecord(path: string): string | null {
  // Opening a pipe without a writer would wait for one.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stats = fstatSync(fd);
    const isRecord = stats.isFile() && stats.nlink === 1 && stats.uid === process.geteuid?.();
    if (!isRecord || (stats.mode & 0o022) !== 0 || stats.size > RECORD_BYTES_MAX) return null;
    const bytes = Buffer.alloc(stats.size);
    return bytes.toString('utf8', 0, readSync(fd, bytes));
  } finally {
    closeSync(fd);
  }
}

/** What it holds becomes arguments of `ip`: everything is checked. */
function parseRecord(path: string): { owner: Owner; aliases: Alias[] } | null {
  try {
    const text = readRecord(path);
    const raw = (text === null ? null : JSON.parse(text)) as Record<string, unknown> | null;
    if (raw === null || raw.version !== RECORD_VERSION || !Array.isArray(raw.aliases)) return null;
    const { pid, startTime, bootId, netns, pidns } = raw;
    if (!Number.isSafeInteger(pid) || (pid as number) < 1) return null;
    const texts = [startTime, bootId, netns, pidns];
    if (!texts.every((one) => typeof one === 'string' && one.length <= TEXT_CHARS_MAX)) return null;
    const owner = { pid, startTime, bootId, netns, pidns } as Owner;
    return { owner, aliases: raw.aliases.slice(0, ADDRESSES_MAX).flatMap(parseAlias) };
  } catch {
    return null;
  }
}

function parseAlias(raw: unknown): Alias[] {
  const { address, prefix, device } = (raw ?? {}) as Record<string, unknown>;
  if (typeof address !== 'string' || !isAddress(address)) return [];
  if (typeof device !== 'string' || !DEVICE_NAME_PATTERN.test(device)) return [];
  const parsed = parseAddress(address);
  const bitsMax = parsed.family === 4 ? 32 : 128;
  if (typeof prefix !== 'number' || !Number.isInteger(prefix) || prefix < 1 || prefix > bitsMax) return [];
  return [{ ...parsed, prefix, device }];
}

const LOCK_NAME = '\0c100k-bench-addresses';
const RETRY_EVERY_MS = 20;
/** How long the lock is waited for. */
const LOCK_MS_MAX = 10_000;

/**
 * Does some work while no other run changes addresses.
 * @param work gets whether the lock was taken; after ten seconds it is called without it, because an abstract name can
 *   be taken by any user, and no user must be able to keep a run from removing what it added
 * @param name of the lock; a test has its own, because runs on the same host take this one
 */
export async function withAddressLock<Result>(
  work: (isLocked: boolean) => Promise<Result>,
  waiting: Waiting = realWaiting(systemClock.monotonicMs),
  name = LOCK_NAME,
): Promise<Result> {
  let server: Server | null = null;
  const isTaken = async (): Promise<boolean> => {
    server = await tryLock(name);
    return server !== null;
  };
  const isLocked = await waitUntil(isTaken, waiting.nowMs() + LOCK_MS_MAX, RETRY_EVERY_MS, waiting);
  try {
    return await work(isLocked);
  } finally {
    (server as Server | null)?.close();
  }
}

function tryLock(name: string): Promise<Server | null> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', () => resolve(null));
    server.listen(name, () => resolve(server));
  });
}
