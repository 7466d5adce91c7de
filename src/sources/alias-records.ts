/**
 * Owns the record of which addresses are ours: one small file per agent under /run/c100k-bench, named after its process.
 * Must never touch an address.
 *
 * A record is written before the address is added and erased after it is removed, so a crash can leave a record without
 * an address, never an address without a record. Who reads a record trusts it only for its own network namespace and
 * boot, and asks the kernel whether the process that wrote it still lives: process ids are used again, so the time at
 * which the process started is compared too.
 */
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { isAddress, parseAddress } from '../base/address.ts';
import { readText } from '../host/proc-file.ts';
import { type Alias, DEVICE_NAME_PATTERN } from '../run/alias.ts';

/** A tmpfs on every Linux that systemd, OpenRC or a container runtime starts: empty after a boot. */
const FOLDER_DEFAULT = '/run/c100k-bench';

const RECORD_VERSION = 1;
const RECORD_NAME_PATTERN = /^\d{1,10}-\d{1,20}\.json$/;

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

export interface AliasRecordsOptions {
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
      this.#makeFolder();
      const temporary = `${this.#myPath}.new`;
      writeFileSync(temporary, JSON.stringify({ version: RECORD_VERSION, ...this.#me, aliases }), {
        mode: 0o644,
      });
      renameSync(temporary, this.#myPath);
      return true;
    } catch {
      return false;
    }
  }

  #makeFolder(): void {
    try {
      mkdirSync(this.#folder, { mode: 0o755 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
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

  /** The records of this network namespace since this boot, our own included. A file that is no record is passed over. */
  read(): AliasRecord[] {
    let names: string[];
    try {
      names = readdirSync(this.#folder).filter((name) => RECORD_NAME_PATTERN.test(name));
    } catch {
      return [];
    }
    return names.flatMap((name) => {
      const path = join(this.#folder, name);
      const parsed = parseRecord(path);
      if (parsed === null || parsed.owner.netns !== this.#me.netns || parsed.owner.bootId !== this.#me.bootId)
        return [];
      return [{ path, pid: parsed.owner.pid, aliases: parsed.aliases, ...this.#lifeOf(parsed.owner) }];
    });
  }

  #lifeOf(owner: Owner): Pick<AliasRecord, 'isAlive' | 'isMine'> {
    // Another process namespace numbers its processes differently: nobody there can be asked about.
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

/** What it holds becomes arguments of `ip`: everything is checked. */
function parseRecord(path: string): { owner: Owner; aliases: Alias[] } | null {
  try {
    const raw = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
    if (raw.version !== RECORD_VERSION || !Array.isArray(raw.aliases) || !Number.isSafeInteger(raw.pid))
      return null;
    const owner = {
      pid: raw.pid as number,
      startTime: String(raw.startTime),
      bootId: String(raw.bootId),
      netns: String(raw.netns),
      pidns: String(raw.pidns),
    };
    return { owner, aliases: raw.aliases.flatMap(parseAlias) };
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
