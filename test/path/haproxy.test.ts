/** Tests the lines and numbers for HAProxy: every port once, enough descriptors. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { haproxyDescriptors, haproxyProcesses, haproxyServerLines } from '../../src/path/haproxy.ts';

describe('the source lines of HAProxy', () => {
  it('give each process a slice of its own, and together every port once', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 100, max: 64_512 }),
        (processes, count) => {
          const ports = { from: 1_024, to: 1_023 + count };
          let next = ports.from;
          for (let process = 0; process < processes; process += 1) {
            const [line = ''] = haproxyServerLines(
              { addresses: ['10.0.0.1'], ports, server: '10.0.0.9:80', processes },
              process,
            );
            const [, from, to] = /^server s1 10\.0\.0\.9:80 source 10\.0\.0\.1:(\d+)-(\d+)$/.exec(line) ?? [];
            assert.equal(Number(from), next);
            next = Number(to) + 1;
          }
          assert.equal(next, ports.to + 1);
        },
      ),
    );
  });

  it('name no port when the kernel shall choose', () => {
    const sources = { addresses: ['10.0.0.1', '10.0.0.2'], ports: null, server: '10.0.0.9:80', processes: 2 };
    assert.deepEqual(haproxyServerLines(sources, 1), [
      'server s1 10.0.0.9:80 source 10.0.0.1',
      'server s2 10.0.0.9:80 source 10.0.0.2',
    ]);
  });

  it('come with as many processes as two descriptors a connection ask for', () => {
    assert.equal(haproxyProcesses(130_000, 20_000), 14);
    assert.equal(haproxyProcesses(1, 20_000), 1);
    assert.equal(haproxyProcesses(130_000, haproxyDescriptors(130_000)), 1);
  });
});
