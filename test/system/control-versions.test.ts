/**
 * Owns that the promise of the control channel holds on every Node that the package claims, for the agent and for the
 * coordinator: nobody is spoken to, or let in, without the key.
 */
import assert from 'node:assert/strict';
import { after, type TestContext, test } from 'node:test';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { agentToken, generateToken } from '../../src/control/token.ts';
import { makeCertificates } from '../support/certificates.ts';
import { ServerProcess, startImpostor, tryToJoin } from '../support/control-peers.ts';
import { nodeRuntime } from '../support/node-runtimes.ts';
import { handshake } from '../support/refused-clients.ts';

const MAJORS = [20, 22, 24, 26] as const;
const certificates = makeCertificates();
after(() => certificates.remove());
const { good, ca } = certificates;

/** Certificates of an authority that the agent's environment trusts, in place of the key. */
async function assertAgent(t: TestContext, runtime: string): Promise<void> {
  const token = generateToken();
  const impostors = [
    { key: good.key, cert: good.cert },
    { key: good.key, cert: good.cert, pskCallback: () => null },
    { ciphers: 'TLS_AES_128_GCM_SHA256', pskCallback: () => Buffer.alloc(32, 1) },
  ];
  const trusting = [
    { NODE_EXTRA_CA_CERTS: ca.certPath },
    { NODE_EXTRA_CA_CERTS: ca.certPath, NODE_TLS_REJECT_UNAUTHORIZED: '0' },
  ];
  for (const options of impostors) {
    for (const env of trusting) {
      const impostor = await startImpostor(t, options);
      const { code, message } = await tryToJoin(t, impostor.port, token, { runtime, env });
      assert.equal(code, 'control-channel', message);
      assert.deepEqual([impostor.secured, impostor.heardBytes], [0, 0], message);
    }
  }
}

/** The error of a TLS session that does not come about; null when it does. */
async function errorOf(port: number, options: ConnectionOptions): Promise<string | null> {
  const socket = connect({ host: '127.0.0.1', port, minVersion: 'TLSv1.3', ...options });
  try {
    return await new Promise((resolve) => {
      socket.on('secureConnect', () => resolve(null));
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      socket.on('close', () => resolve('closed'));
    });
  } finally {
    socket.destroy();
  }
}

async function ticketOf(socket: TLSSocket): Promise<Buffer> {
  return await new Promise((resolve) => {
    socket.once('session', resolve);
    socket.resume();
  });
}

/** Agents with the key, and clients without; a ticket of a token that expires. */
async function assertCoordinator(t: TestContext, runtime: string): Promise<void> {
  const master = generateToken();
  const server = new ServerProcess(t, master, { runtime });
  const { port } = await server.saw('listening');
  assert.equal((await tryToJoin(t, port, master, { runtime }, 'same')).code, null);
  await server.saw('agent', ({ name }) => name === 'same');
  const refused: ConnectionOptions[] = [
    {},
    { key: good.key, cert: good.cert },
    { pskCallback: () => ({ psk: master.key, identity: '' }) },
    { pskCallback: () => ({ psk: Buffer.alloc(32), identity: 'master' }) },
  ];
  for (const options of refused) assert.notEqual(await errorOf(port, options), null);
  const token = agentToken(master, {
    name: 'ada',
    expiresSec: Math.floor(Date.now() / 1_000) + 3_600,
    targets: null,
  });
  const first = connect({
    host: '127.0.0.1',
    port,
    minVersion: 'TLSv1.3',
    ciphers: 'TLS_AES_128_GCM_SHA256',
    pskCallback: () => ({ psk: token.key, identity: token.identity }),
    checkServerIdentity: () => undefined,
  });
  first.on('error', () => {});
  const session = await ticketOf(first);
  first.destroy();
  assert.notEqual(await errorOf(port, { session }), null, 'a ticket in time');
  await server.advance(7_200_000);
  assert.notEqual(await errorOf(port, { session }), null, 'a ticket of an expired token');
  await assert.rejects(handshake(port, token), /certificate expired/i);
  assert.deepEqual(
    server.news.flatMap((news) => (news.type === 'agent' ? [news.name] : [])),
    ['same'],
  );
}

for (const major of MAJORS) {
  test(`no client is spoken to or let in without the key on Node ${major}`, async (t) => {
    const runtime = nodeRuntime(major);
    if ('missing' in runtime) {
      t.skip(`not run on Node ${major}: ${runtime.missing}`);
      return;
    }
    await assertAgent(t, runtime.path);
    await assertCoordinator(t, runtime.path);
    t.diagnostic(`ran on Node ${runtime.version}`);
  });
}
