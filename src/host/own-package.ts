/**
 * Owns where this package lies: its version, and the script that agents, holders and workers are forked from.
 * Must never trust the arguments of the process: in a process of another program they name that one.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What a run must know of the package that it comes with. */
interface OwnPackage {
  readonly version: string;
  /** the script to fork: `c100k-bench` itself */
  readonly entryPath: string;
  /** the manual; an image may be without it */
  readonly manualPath: string;
  /** the JSON Schema of run files, for editors */
  readonly runFileSchemaPath: string;
}

/** The nearest package.json above this file that is ours; it is there in a clone and in an installed package alike. */
export function ownPackage(): OwnPackage {
  const start = dirname(fileURLToPath(import.meta.url));
  for (let folder = start; ; folder = dirname(folder)) {
    try {
      const found = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>;
      if (found.name === 'c100k-bench') {
        return {
          version: String(found.version),
          entryPath: join(folder, 'bin', 'c100k-bench.js'),
          manualPath: join(folder, 'docs', 'MANUAL.md'),
          runFileSchemaPath: join(folder, 'docs', 'run-file.schema.json'),
        };
      }
    } catch {
      // Not here: one folder up.
    }
    if (dirname(folder) === folder) throw new Error(`no package.json of c100k-bench above ${start}`);
  }
}
