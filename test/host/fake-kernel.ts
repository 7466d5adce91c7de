/**
 * Owns a tree of files that looks like /proc and /sys, for tests. Must never be read by the product.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

export interface FakeKernel {
  readonly procRoot: string;
  readonly sysRoot: string;
  /** writes one more file, by its path from the root: `proc/meminfo` */
  write(path: string, text: string): void;
  remove(): void;
}

/** @param files text by path: `proc/sys/fs/file-nr`, `sys/fs/cgroup/memory.max` */
export function fakeKernel(files: Readonly<Record<string, string>> = {}): FakeKernel {
  const root = mkdtempSync(join(tmpdir(), 'c100k-kernel-'));
  const write = (path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  for (const [path, text] of Object.entries(files)) write(path, text);
  return {
    procRoot: join(root, 'proc'),
    sysRoot: join(root, 'sys'),
    write,
    remove: () => rmSync(root, { recursive: true, force: true }),
  };
}
