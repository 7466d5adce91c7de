/**
 * Owns what the kernel's TCP_INFO says of one connection. Must never judge it, or remember it.
 */
import * as libc from './libc.ts';

/** Room for struct tcp_info of later kernels too; a kernel writes no more than it is given room for. */
const TCP_INFO_BYTES_MAX = 256;
/** `tcpi_unacked` in struct tcp_info (linux/tcp.h): segments that the far kernel has not acknowledged. */
const UNACKED_OFFSET = 24;
/** `tcpi_total_retrans` in struct tcp_info (linux/tcp.h). */
const TOTAL_RETRANS_OFFSET = 100;

/** One buffer for all connections: each question overwrites the last answer. Only the constructor allocates. */
export class TcpInfo {
  readonly #info = new Uint8Array(TCP_INFO_BYTES_MAX);
  readonly #view = new DataView(this.#info.buffer);

  /** Segments that were sent again so far, SYNs included; 0 when the kernel does not say. */
  retransmits(fd: number): number {
    if (libc.tcpInfo(fd, this.#info) < TOTAL_RETRANS_OFFSET + 4) return 0;
    return this.#view.getUint32(TOTAL_RETRANS_OFFSET, true);
  }

  /** Whether the far kernel has all that we sent: then it is there, and its application is silent. */
  isAcknowledged(fd: number): boolean {
    if (libc.tcpInfo(fd, this.#info) < UNACKED_OFFSET + 4) return false;
    return this.#view.getUint32(UNACKED_OFFSET, true) === 0;
  }
}
