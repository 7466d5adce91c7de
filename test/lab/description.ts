/**
 * Owns the shape of a lab network: hosts, what runs on them, what is asked, what must be seen, and the words about it.
 * Must never start anything (runner.ts).
 */
import { type PortRange, portCount } from '../../src/base/tuple-space.ts';
import type { HostSpec } from '../support/network.ts';

/** The same network in full, or with its port ranges shrunk: the arithmetic is the same. */
export interface Scale {
  readonly isShort: boolean;
  /** ports of each address that a NAT has */
  readonly natPorts: PortRange;
  /** ports that a program gets which does not name its own */
  readonly kernelPorts: PortRange;
  /** ports of one address, as a number */
  readonly each: number;
}

export const FULL: Scale = scaleOf(false, { from: 1_024, to: 65_535 }, { from: 32_768, to: 60_999 });
export const SHORT: Scale = scaleOf(true, { from: 20_000, to: 21_499 }, { from: 30_000, to: 30_499 });

function scaleOf(isShort: boolean, natPorts: PortRange, kernelPorts: PortRange): Scale {
  return { isShort, natPorts, kernelPorts, each: portCount([natPorts]) };
}

/** A program of ours or of others on one host. */
export type Part =
  | {
      readonly kind: 'serve';
      readonly host: string;
      readonly mode: 'hold' | 'echo' | 'whoami';
      readonly port: number;
    }
  | { readonly kind: 'nginx'; readonly host: string; readonly ports: readonly number[] }
  | {
      readonly kind: 'haproxy';
      readonly host: string;
      readonly port: number;
      /** `address:port` */
      readonly server: string;
      readonly addresses: readonly string[];
      /** null: the kernel chooses */
      readonly ports: PortRange | null;
    }
  | {
      readonly kind: 'dns';
      readonly host: string;
      readonly name: string;
      readonly addresses: readonly string[];
    };

/** What is counted on the servers. */
export interface Expected {
  readonly held: number;
  /** distinct source addresses on the servers */
  readonly sources: number;
  /** the addresses themselves, where the path makes them */
  readonly addresses?: readonly string[];
  /** connections of each server host, when there are several */
  readonly perServer?: Readonly<Record<string, number>>;
  readonly whoRanOut: 'path' | null;
}

/** One question to one network. */
export interface LabCase {
  /** null when the network has one case */
  readonly label: { readonly en: string; readonly zh: string } | null;
  readonly hosts: Readonly<Record<string, HostSpec>>;
  readonly parts: readonly Part[];
  /** hosts whose established connections are counted */
  readonly servers: readonly string[];
  readonly serverPorts: readonly number[];
  readonly asked: number;
  /** arguments of the run, without --conns */
  readonly run: readonly string[];
  /** hosts that run an agent each; empty: the client itself */
  readonly agents: readonly string[];
  /** arguments of plan after --target and --conns; `hosts`: how many hosts plan for a share each */
  readonly plan: { readonly args: readonly string[]; readonly hosts: number };
  readonly expected: Expected;
  /** null: `path` is not asked here */
  readonly path: { readonly args: readonly string[]; readonly says: RegExp } | null;
}

/** What a section says besides its figures; paragraphs of Markdown. */
export interface Prose {
  readonly title: string;
  readonly question: string;
  readonly explanation: string;
  readonly lift: string;
}

export interface LabNetwork {
  /** S1 to S11 */
  readonly name: string;
  readonly drawing: string;
  readonly cases: (scale: Scale) => readonly LabCase[];
  readonly en: Prose;
  readonly zh: Prose;
}
