/**
 * Owns a program that is one holder and nothing else, for tests and measurements that play the agent themselves.
 */
import { fileURLToPath } from 'node:url';
import { runHolder } from '../../src/agent/holder.ts';

/** The compiled path of this program, to fork. */
export const HOLDER_ENTRY_PATH = fileURLToPath(import.meta.url);

if (process.argv[1] === HOLDER_ENTRY_PATH) runHolder();
