/**
 * Owns what the headers of this machine say of numbers and layouts, asked by compiling a small program with `cc`. Must never
 * guess: what the headers do not know is named as missing.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { arch, tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from './source-text.ts';

/** What the kernel itself says, and the architectures that have no numbers of their own share. */
const KERNEL_HEADERS = [
  'linux/types.h',
  'linux/version.h',
  'linux/eventpoll.h',
  'linux/io_uring.h',
  'linux/tcp.h',
  'linux/in.h',
  'linux/in6.h',
  'linux/mman.h',
  'linux/prctl.h',
  'asm-generic/unistd.h',
  'asm-generic/errno.h',
  'asm-generic/socket.h',
  'asm-generic/fcntl.h',
  'asm-generic/resource.h',
  'asm-generic/mman-common.h',
];
/** What programs are compiled with on this machine. */
const OWN_HEADERS = [
  'stddef.h',
  'errno.h',
  'fcntl.h',
  'malloc.h',
  'netinet/in.h',
  'netinet/tcp.h',
  'sys/epoll.h',
  'sys/eventfd.h',
  'sys/mman.h',
  'sys/prctl.h',
  'sys/resource.h',
  'sys/socket.h',
  'sys/syscall.h',
  'linux/types.h',
  'linux/version.h',
  'linux/io_uring.h',
];

/**
 * Whose numbers: this machine's, as its C library has them, or those of the other architecture (arm64 on x64, x64 on arm64), as the
 * kernel's own headers have them. Only what depends on the architecture's name differs there: arm64 takes every number of
 * these headers from asm-generic (arch/arm64/include/uapi/asm), x64 has its own of the same value.
 */
export type Machine = 'own' | 'other';

/** What headers say. */
export interface HeaderValues {
  readonly values: ReadonlyMap<string, number>;
  /** expressions that they do not know */
  readonly missing: readonly string[];
  /** of the kernel that the headers are of, such as 6.1 */
  readonly version: string;
}

/** Why headers cannot be asked here; false: they can. */
export const HEADERS_SKIP: string | false =
  spawnSync('cc', ['-E', '-include', 'linux/io_uring.h', '-x', 'c', '/dev/null']).status === 0
    ? false
    : 'no cc, or no kernel headers (linux-libc-dev)';

/** The values of C expressions. */
export function headerValues(machine: Machine, expressions: readonly string[]): HeaderValues {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-headers-'));
  try {
    const source = join(folder, 'ask.c');
    const program = join(folder, 'ask');
    const others = { x64: ['-U__x86_64__', '-D__aarch64__'], arm64: ['-U__aarch64__', '-D__x86_64__'] };
    const flags = machine === 'own' ? [] : (others[arch() as 'x64' | 'arm64'] ?? []);
    const compile = (asked: readonly string[]): string => {
      writeFileSync(source, sourceOf(machine === 'own' ? OWN_HEADERS : KERNEL_HEADERS, asked));
      const args = [...flags, '-D_GNU_SOURCE', '-fmax-errors=0', '-o', program, source];
      return spawnSync('cc', args, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } }).stderr;
    };
    const unknown = new Set(
      [...compile(expressions).matchAll(/ask\.c:(\d+):\d+: error/g)].map(([, line]) => Number(line) - 1),
    );
    const known = expressions.filter((_, index) => !unknown.has(index));
    const asked = ['LINUX_VERSION_CODE', ...known];
    const errors = compile(asked);
    const { status, stdout } = spawnSync(program, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`the headers cannot be asked: ${errors}`);
    const [code = 0, ...numbers] = stdout.trim().split('\n').map(Number);
    return {
      values: new Map(known.map((expression, index) => [expression, numbers[index]!])),
      missing: expressions.filter((_, index) => unknown.has(index)),
      version: `${code >> 16}.${(code >> 8) & 255}`,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One line for each expression, from the first line on, so that an error names it. */
function sourceOf(headers: readonly string[], expressions: readonly string[]): string {
  const lines = expressions.map((expression) => `printf("%lld\\n", (long long)(${expression}));`);
  const head = `int printf(const char *, ...); ${headers.map((name) => `\n#include <${name}>`).join('')}
#ifndef offsetof
#define offsetof __builtin_offsetof
#endif
int main(void) {
#line 1
`;
  return `${head}${lines.join('\n')}\nreturn 0; }\n`;
}

/**
 * The numbers that a source names at its top level, exported or not: `const NAME = 1 << 3;`.
 * @param path from the repository's root
 */
export function numbersIn(path: string): Map<string, number> {
  const text = readFileSync(join(ROOT, path), 'utf8');
  const found = text.matchAll(/^(?:export )?const ([A-Z][A-Z0-9_]*) = (-?[0-9][\w| <]*);$/gm);
  return new Map([...found].map(([, name = '', value = '']) => [name, numberOf(value)]));
}

function numberOf(text: string): number {
  // As C prints it, signed.
  if (text.endsWith('n')) return Number(BigInt.asIntN(64, BigInt(text.slice(0, -1).replaceAll('_', ''))));
  if (text.startsWith('-')) return -numberOf(text.slice(1));
  return text
    .split('|')
    .map((part) => part.split('<<').map((number) => Number(number.trim().replaceAll('_', ''))))
    .map(([number = Number.NaN, shift = 0]) => number * 2 ** shift)
    .reduce((sum, part) => sum + part, 0);
}

/** Whether the first version, such as 6.1, is before the second. */
export function isBefore(version: string, other: string): boolean {
  const [[major = 0, minor = 0] = [], [otherMajor = 0, otherMinor = 0] = []] = [version, other].map((text) =>
    text.split('.').map(Number),
  );
  return major < otherMajor || (major === otherMajor && minor < otherMinor);
}
