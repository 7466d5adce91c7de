/**
 * Owns the recording of one real conversation on the control channel: an agent of the real program, a coordinator in this
 * process, a target that answers and resets a few. `node build/test/support/record-conversation.js FILE` writes each
 * message as a line of JSON, `{from, message}`. A recording is kept when the protocol changes, so that later versions are
 * tested against it (test/control/fixtures). Must never write down what names the host that it ran on.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatToken, generateToken } from '../../src/control/token.ts';
import { Run } from '../../src/coordinator/run.ts';
import type { RecordedMessage } from '../../src/coordinator/run-settings.ts';
import { UNWATCHED } from '../../src/coordinator/run-watch.ts';
import { systemClock } from '../../src/time/timer.ts';
import { cliPath } from './run-cli.ts';

const CONNECTIONS = 60;
const HOLD_MS = 4_000;
/** Of the connections, so many are reset in the hold. */
const RESET = 6;
const RESET_AFTER_MS = 2_500;

/** An echo target. */
async function listen(): Promise<{ readonly port: number; close(): void }> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.pipe(socket);
    if (sockets.length !== CONNECTIONS) return;
    setTimeout(() => {
      for (const each of sockets.slice(0, RESET)) each.resetAndDestroy();
    }, RESET_AFTER_MS);
  });
  server.listen({ port: 0, host: '127.0.0.1', backlog: 1_024 });
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}

/** A message with what names the host replaced. */
function anonymous({ message }: RecordedMessage): RecordedMessage['message'] {
  if (message.type !== 'hello') return message;
  return { ...message, host: { ...message.host, hostname: 'host', kernel: '6.1.0', node: 'v22.0.0' } };
}

const AGENT_SAYS: ReadonlySet<string> = new Set([
  'hello',
  'offer',
  'ready',
  'refuse',
  'stats',
  'losses',
  'done',
]);

async function record(path: string): Promise<void> {
  const target = await listen();
  const folder = mkdtempSync(join(tmpdir(), 'c100k-record-'));
  const token = generateToken();
  const messages: RecordedMessage[] = [];
  const run = new Run({
    spec: {
      endpoints: [{ address: '127.0.0.1', port: target.port, family: 4 }],
      protocol: 'echo',
      connections: CONNECTIONS,
      ratePerSec: 50,
      pendingMax: 20,
      connectTimeoutMs: 5_000,
      holdMs: HOLD_MS,
      close: 'rst',
      probeEveryMs: 1_000,
      probeTimeoutMs: 5_000,
      sources: { addresses: [], ports: null, aliasDevice: null, aliasLeaseMs: 60_000, prefixes: [] },
      holders: 2,
      onDrop: 'count',
      wantsLossDetails: true,
    },
    targetText: ['echo://127.0.0.1'],
    entryPath: '',
    toolVersion: '0.0.0',
    clock: systemClock,
    listen: { host: '127.0.0.1', port: 0 },
    token,
    hasLocalAgent: false,
    remoteAgents: 1,
    waitAgentsMs: 30_000,
    onAgentLoss: 'continue',
    ssh: null,
    watch: { ...UNWATCHED, onLosses: () => {} },
    onProgress: () => {},
    onNote: (line) => process.stderr.write(`${line}\n`),
    onListening: ({ port }) => {
      const args = ['agent', '--join', `127.0.0.1:${port}`, '--name', 'recorded'];
      fork(cliPath, [...args, '--partial-report', join(folder, 'partial.json')], {
        env: { ...process.env, C100K_TOKEN: formatToken(token) },
      });
    },
    onRecord: (entry) => messages.push(entry),
  });
  try {
    const report = await run.start();
    process.stderr.write(`${report.verdict}: ${report.reason}\n`);
    const lines = messages.map((entry) =>
      JSON.stringify({
        from: AGENT_SAYS.has(entry.message.type) ? 'agent' : 'coordinator',
        message: anonymous(entry),
      }),
    );
    writeFileSync(path, `${lines.join('\n')}\n`);
  } finally {
    target.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await record(process.argv[2] ?? 'conversation.jsonl');
