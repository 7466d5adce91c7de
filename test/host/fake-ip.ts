/**
 * Owns a kernel's addresses that only a test has: a `RunProgram` that understands the few `ip` commands of aliases.
 * Must never start a program.
 */
import type { RunProgram } from '../../src/host/command.ts';

type CommandResult = Awaited<ReturnType<RunProgram>>;

export interface FakeAddress {
  local: string;
  prefixlen: number;
  device: string;
  label?: string;
  /** null: for ever */
  validSec: number | null;
}

/** A host with addresses; `ip -batch` and `ip -j addr` work on them. */
export class FakeIp {
  readonly addresses: FakeAddress[];
  /** every command of every batch */
  readonly commands: string[] = [];
  /** the device that packets of a source leave by, for `ip route get`; absent: no route */
  readonly leavesBy = new Map<string, string>();
  isMissing = false;

  constructor(addresses: readonly FakeAddress[] = []) {
    this.addresses = [...addresses];
  }

  readonly run: RunProgram = (file, args, options) => {
    if (file !== 'ip' || this.isMissing) return Promise.resolve(result({ code: null, missing: true }));
    if (args[0] === '-j' && args.includes('-batch')) {
      return Promise.resolve(result({ stdout: this.#routes((options.input ?? '').trimEnd().split('\n')) }));
    }
    if (args[0] === '-j') return Promise.resolve(result({ stdout: this.#list() }));
    return Promise.resolve(this.#batch((options.input ?? '').trimEnd().split('\n')));
  };

  #list(): string {
    const devices = ['lo', 'eth0', ...new Set(this.addresses.map(({ device }) => device))];
    return JSON.stringify(
      [...new Set(devices)].map((ifname) => ({
        ifname,
        flags: ifname === 'lo' ? ['LOOPBACK'] : ['BROADCAST'],
        addr_info: this.addresses
          .filter(({ device }) => device === ifname)
          .map(({ local, prefixlen, label, validSec }) => ({
            family: local.includes(':') ? 'inet6' : 'inet',
            local,
            prefixlen,
            ...(label === undefined ? {} : { label }),
            valid_life_time: validSec ?? 4_294_967_295,
          })),
      })),
    );
  }

  /** `route get <target> from <source>` */
  #routes(lines: readonly string[]): string {
    return lines
      .flatMap((line) => {
        this.commands.push(line);
        const [, , dst, , from = ''] = line.split(' ');
        const dev = this.leavesBy.get(from);
        return dev === undefined ? [] : [`${JSON.stringify([{ dst, from, dev }])}\n`];
      })
      .join('');
  }

  #batch(lines: readonly string[]): CommandResult {
    const errors = lines.flatMap((line, index) => {
      const error = this.#one(line);
      return error === null ? [] : [`Error: ${error}\nCommand failed -:${index + 1}\n`];
    });
    return result({ code: errors.length === 0 ? 0 : 1, stderr: errors.join('') });
  }

  #one(line: string): string | null {
    this.commands.push(line);
    const [, verb = '', local = '', bits = '', device = ''] =
      /^addr (\w+) (\S+)\/(\d+) dev (\S+)/.exec(line) ?? [];
    const at = this.addresses.findIndex(
      (one) => one.local === local && one.prefixlen === Number(bits) && one.device === device,
    );
    if (device === 'nodev') return 'Cannot find device "nodev"';
    const label = /label (\S+)/.exec(line)?.[1];
    if (verb === 'del') {
      const isMeant = label === undefined || this.addresses[at]?.label === label;
      if (at < 0 || !isMeant) return 'ipv4: Address not found.';
      this.addresses.splice(at, 1);
      return null;
    }
    if (verb === 'add' && at >= 0) return 'ipv4: Address already assigned.';
    const made: FakeAddress = {
      local,
      prefixlen: Number(bits),
      device,
      validSec: Number(/valid_lft (\d+)/.exec(line)?.[1]),
      ...(label === undefined ? {} : { label }),
    };
    if (at >= 0) this.addresses[at] = made;
    else this.addresses.push(made);
    return null;
  }
}

function result(more: Partial<CommandResult>): CommandResult {
  return { code: 0, stdout: '', stderr: '', missing: false, truncated: false, ...more };
}
