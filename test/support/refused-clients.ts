/**
 * Owns clients that connect to a control channel and are no agents: without a key, with a wrong one, silent, dripping,
 * shouting. Must never be let in.
 */
import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import type { Token } from '../../src/control/token.ts';

/** Ends a wait for a coordinator that does not close; its own deadlines are a few seconds of its attention. */
const END_TIMEOUT_MS = 120_000;

/** How a visit ended: after how long, and with which close code where there was a WebSocket. */
export interface Visit {
  readonly afterMs: number;
  readonly code: number | null;
  readonly reason: string;
}

async function ended(socket: Socket, beganMs: number): Promise<Visit> {
  const closed = new Promise((resolve) => socket.once('close', resolve));
  await Promise.race([closed, failAfter(END_TIMEOUT_MS)]);
  return { afterMs: performance.now() - beganMs, code: null, reason: '' };
}

async function failAfter(ms: number): Promise<never> {
  await sleep(ms, undefined, { ref: false });
  throw new Error(`a client was still there after ${ms} ms`);
}

/** A TCP connection that says nothing, or only these bytes. */
export async function sendOnly(port: number, bytes: Buffer | null = null): Promise<Visit> {
  const beganMs = performance.now();
  const socket = connectTcp(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.resume();
  if (bytes !== null) socket.write(bytes);
  return await ended(socket, beganMs);
}

/** The TLS handshake with a token; rejects when it fails. */
export async function handshake(port: number, token: Token): Promise<TLSSocket> {
  const socket = connectTls({
    host: '127.0.0.1',
    port,
    pskCallback: () => ({ psk: token.key, identity: token.identity }),
    minVersion: 'TLSv1.3',
    ciphers: 'TLS_AES_128_GCM_SHA256',
    checkServerIdentity: () => undefined,
  });
  await once(socket, 'secureConnect');
  socket.on('error', () => {});
  return socket;
}

/** Has the key, and then sends its request one byte a time. */
export async function drip(port: number, token: Token): Promise<Visit> {
  const beganMs = performance.now();
  const socket = await handshake(port, token);
  socket.resume();
  const text = 'GET /agent HTTP/1.1\r\nhost: coordinator\r\nx-slow: yes\r\n';
  let index = 0;
  const timer = setInterval(() => {
    if (socket.writable) socket.write(text[index++ % text.length] ?? '');
  }, 200);
  const visit = await ended(socket, beganMs);
  clearInterval(timer);
  return visit;
}

/** Has the key and says nothing after the handshake. */
export async function stayMute(port: number, token: Token): Promise<Visit> {
  const beganMs = performance.now();
  const socket = await handshake(port, token);
  socket.resume();
  return await ended(socket, beganMs);
}

/** Has the key, upgrades, and sends these frames; how the coordinator ends that. */
export async function speak(
  port: number,
  token: Token,
  ...frames: readonly (string | Buffer)[]
): Promise<Visit> {
  const beganMs = performance.now();
  const tls = await handshake(port, token);
  const socket = new WebSocket('ws://coordinator/agent', {
    createConnection: () => tls,
    perMessageDeflate: false,
  });
  socket.on('error', () => {});
  const closed = new Promise<[number, Buffer]>((resolve) => {
    socket.once('close', (code, reason) => resolve([code, reason]));
  });
  socket.once('open', () => {
    for (const frame of frames) socket.send(frame, () => {});
  });
  const [code, reason] = await Promise.race([closed, failAfter(END_TIMEOUT_MS)]);
  return { afterMs: performance.now() - beganMs, code, reason: reason.toString() };
}
