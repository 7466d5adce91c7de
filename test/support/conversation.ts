/**
 * Owns recorded conversations of the control channel (record-conversation.ts makes them), and what a later minor version
 * would make of one. Must never be made by hand: a recording is what a version has said.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from './run-cli.ts';

export interface Line {
  readonly from: 'agent' | 'coordinator';
  readonly message: { readonly type: string };
}

/** A recording, in order. @param version of the protocol */
export function recorded(version: string): Line[] {
  const path = join(repositoryRoot, 'test', 'control', 'fixtures', `conversation-${version}.jsonl`);
  return readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
}

/** Objects whose keys are data. */
const TABLES: ReadonlySet<string> = new Set([
  'failed',
  'dropped',
  'localSkips',
  'droppedBy',
  'openBySource',
  'openByEndpoint',
  'bySource',
  'byEndpoint',
  'troubles',
  'ciphers',
  'counters',
  'samples',
]);

function grown(value: unknown, key: string): unknown {
  if (Array.isArray(value)) return value.map((each) => grown(each, ''));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([name, each]) => [name, grown(each, name)] as const);
  const more = TABLES.has(key) ? [] : [['laterField', { deep: [1, null] }] as const];
  return Object.fromEntries([...entries, ...more]);
}

/** The same message as a later minor version may say it: a field more in every object, further words in closed lists. */
export function later<Message extends { readonly type: string }>(message: Message): Message {
  const more = grown(message, '') as Message & Record<string, unknown>;
  switch (message.type) {
    case 'hello':
      return { ...more, protocol: '1.9' };
    case 'stats': {
      const count = {
        agent: 'a',
        when: 'mid-hold',
        established: 1,
        openBefore: 1,
        open: 1,
        method: 'netlink',
      };
      const { stats, kernel } = more as unknown as { stats: object; kernel: object[] };
      return { ...more, stats: { ...stats, failed: { 'quantum-flux': 2 } }, kernel: [...kernel, count] };
    }
    case 'losses': {
      const { losses } = more as unknown as { losses: object[] };
      return { ...more, losses: losses.map((loss) => ({ ...loss, reason: 'eclipse' })) };
    }
    default:
      return more;
  }
}

/** Whether anything is left of what `later` has added. */
export function isLater(value: object): boolean {
  return JSON.stringify(value).includes('laterField');
}
