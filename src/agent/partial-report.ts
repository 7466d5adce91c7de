/**
 * Owns the file that an agent leaves when its coordinator is lost: the last stats, whole or not at all.
 * Must never throw: the agent is on its way out.
 */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Writes JSON to a temporary file beside `path`, then renames it.
 * @returns the path, or null when it could not be written
 */
export function writePartialReport(path: string, report: unknown): string | null {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    // `wx`: a link that somebody else has put there is not followed.
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(temporary, `${JSON.stringify(report, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
    renameSync(temporary, path);
    return path;
  } catch {
    return null;
  }
}
