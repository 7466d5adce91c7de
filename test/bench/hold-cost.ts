/**
 * Owns the question what it costs to hold silent connections.
 */
import assert from 'node:assert/strict';
import { type Figure, figure } from './figure.ts';
import { Fleet } from './fleet.ts';
import type { Yardstick } from './yardstick.ts';

const CONNECTIONS = 130_000;
const HOLDERS = 7;

/** @param holdMs how long to hold and measure */
export async function measureHoldCost(yardstick: Yardstick, holdMs: number): Promise<Figure[]> {
  const server = await yardstick.serve(8);
  const fleet = new Fleet({
    port: server.port,
    connections: CONNECTIONS,
    holders: HOLDERS,
    addresses: ['127.0.0.2', '127.0.0.3', '127.0.0.4'],
    pendingMax: 1_000,
  });
  try {
    await fleet.prepare();
    await fleet.open(120_000);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const before = await fleet.read();
    const beganMs = performance.now();
    assert.equal(before.open, CONNECTIONS, 'all are open');
    await new Promise((resolve) => setTimeout(resolve, holdMs));
    const after = await fleet.read();
    const percent = ((after.cpuMs - before.cpuMs) / (performance.now() - beganMs)) * 100;
    assert.equal(after.open, CONNECTIONS, 'all are still open');
    return [
      figure({
        name: 'hold-cpu',
        meaning: `CPU of ${HOLDERS} holders together while ${CONNECTIONS} silent connections are held, of one core`,
        value: percent,
        unit: '%',
        bound: 5,
        boundIs: 'at-most',
        samples: [percent],
      }),
    ];
  } finally {
    await fleet.stop();
    await server.stop();
  }
}
