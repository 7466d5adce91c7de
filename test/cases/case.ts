/**
 * Owns what a case is: a fault with real peers, how it is played, and how it must come out. Must never hold what the program
 * says today: recordings do.
 */
import type { Expected } from './expectation.ts';
import type { PlayedRun, Stage } from './stage.ts';

/** Programs that a case starts, by their Debian package. */
export type PeerPackage =
  | 'apache2-bin'
  | 'conntrack'
  | 'dnsmasq-base'
  | 'faketime'
  | 'haproxy'
  | 'memcached'
  | 'mosquitto'
  | 'nghttp2-server'
  | 'nginx-light'
  | 'openssh-server'
  | 'openssl'
  | 'pgbouncer'
  | 'postgresql'
  | 'python3-websockets'
  | 'redis-server';

export interface CaseSpec {
  /** unique; the name of its recording */
  readonly name: string;
  /** what is done, in words */
  readonly fault: string;
  /** the case that it looks like, and is not */
  readonly looksLike?: string;
  /** public reports of the same kind */
  readonly reports?: readonly string[];
  readonly needs?: readonly PeerPackage[];
  readonly play: (stage: Stage) => Promise<PlayedRun>;
  readonly expected: Expected;
}
