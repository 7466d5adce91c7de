/**
 * Owns the file that an agent leaves when its coordinator is lost: the last stats, whole or not at all.
 * Must never throw, and must never wait for a reader: the agent is on its way out.
 */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { followOutputPath } from '../host/output-path.ts';
import { writeWholeFile } from '../host/whole-file.ts';

/**
 * Writes JSON beside `path`, then renames it. Its default place is a folder that every user may write to, so a link or a
 * pipe that another user has put there gets nothing.
 * @returns the path, or null when it could not be written
 */
export function writePartialReport(path: string, report: unknown): string | null {
  try {
    mkdirSync(dirname(path), { recursive: true });
    const place = followOutputPath(path);
    if (place.kind !== 'file') return null;
    writeWholeFile(place, `${JSON.stringify(report, null, 2)}\n`, { mode: 0o600, kept: place.kept });
    return path;
  } catch {
    return null;
  }
}
