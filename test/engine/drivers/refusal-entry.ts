/**
 * Owns a process that io_uring is refused to: it refuses it to itself as told, asks the probe, and prints what that says; or it
 * is the command line from then on, and its children are refused too.
 *
 *   node refusal-entry.js eperm-setup | eperm-enter | eperm-register | enosys-setup | ... | none
 *   node refusal-entry.js eperm-setup -- --target self ...
 */
import koffi from 'koffi';
import { uringKernel } from '../../../src/engine/drivers/uring-binding.ts';
import { probeUring } from '../../../src/engine/drivers/uring-probe.ts';

/** linux/prctl.h, linux/seccomp.h, linux/bpf_common.h */
const PR_SET_NO_NEW_PRIVS = 38;
const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2;
const LOAD_NUMBER = 0x20;
const JUMP_IF_EQUAL = 0x15;
const RETURN = 0x06;
const ALLOW = 0x7fff_0000;
const ERRNO = 0x0005_0000;
/** include/uapi/asm-generic/unistd.h */
const CALLS: Readonly<Record<string, number>> = { setup: 425, enter: 426, register: 427 };
const ERRNOS: Readonly<Record<string, number>> = { eperm: 1, enosys: 38 };

/** As profiles of container runtimes do: one system call fails, everything else goes on. */
function filter(call: number, errno: number): void {
  const prctl = koffi.load(null).func('int prctl(int, ulong, intptr_t, ulong, ulong)');
  const memory = uringKernel.map(4_096, -1, 0);
  if (typeof memory === 'number') throw new Error(`mmap: errno ${-memory}`);
  const view = new DataView(memory.buffer);
  // struct sock_filter: code (16 bits), jt, jf (8), k (32)
  const program = [
    [LOAD_NUMBER, 0, 0, 0],
    [JUMP_IF_EQUAL, 0, 1, call],
    [RETURN, 0, 0, ERRNO | errno],
    [RETURN, 0, 0, ALLOW],
  ] as const;
  for (const [index, [code, ifTrue, ifFalse, k]] of program.entries()) {
    view.setUint16(64 + index * 8, code, true);
    view.setUint8(64 + index * 8 + 2, ifTrue);
    view.setUint8(64 + index * 8 + 3, ifFalse);
    view.setUint32(64 + index * 8 + 4, k, true);
  }
  // struct sock_fprog: length, and the pointer at 8
  view.setUint16(0, program.length, true);
  view.setBigUint64(8, BigInt(memory.address + 64), true);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) !== 0) throw new Error('no_new_privs');
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, memory.address, 0, 0) !== 0) throw new Error('seccomp');
}

const how = process.argv[2] ?? '';
if (how !== 'none') {
  const [errno, call] = how.split('-').map((word, place) => [ERRNOS, CALLS][place]?.[word]);
  if (call === undefined || errno === undefined) throw new Error(`"${how}" is no refusal`);
  filter(call, errno);
}
if (process.argv[3] === '--') {
  const { main } = await import('../../../src/main.ts');
  process.exitCode = await main([process.execPath, 'c100k-bench', ...process.argv.slice(4)]);
} else {
  console.log(JSON.stringify(probeUring()));
}
