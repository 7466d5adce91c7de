import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import { type RunRequest, readRunRequest, resolveTargets, specOf } from '../../src/api/run-request.ts';
import { formatEndpoint } from '../../src/base/endpoint.ts';
import { BenchError, ExitCode } from '../../src/base/errors.ts';
import { parseCommandLine } from '../../src/cli/command-line.ts';

async function request(line: string): Promise<RunRequest> {
  const parsed = await parseCommandLine(line.split(' ').filter(Boolean), {}, '1.2.3', 80);
  assert(parsed.kind === 'command');
  return readRunRequest(parsed.values);
}

function isUsage(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert(error instanceof BenchError, String(error));
    assert.equal(error.exitCode, ExitCode.usage);
    assert.match(`${error.message} | ${error.hint}`, pattern);
    return true;
  };
}

describe('the flags of a run', () => {
  it('become a spec with the documented defaults', async () => {
    const { spec, targets } = await request('-t 127.0.0.1:8000 -c 130k');
    assert.equal(targets[0]?.host, '127.0.0.1');
    assert.deepEqual(spec, {
      protocol: 'tcp',
      connections: 130_000,
      ratePerSec: null,
      holdMs: 30_000,
      connectTimeoutMs: 10_000,
      pendingMax: 1000,
      close: 'rst',
      probeEveryMs: null,
      probeTimeoutMs: 10_000,
      sources: { addresses: [], ports: null, aliasDevice: null, aliasLeaseMs: 60_000, prefixes: [] },
      holders: null,
      onDrop: 'count',
      wantsLossDetails: false,
    });
  });

  it('are parsed by their type: m is a million in a count and minutes in a duration', async () => {
    const { spec } = await request(
      '-t 127.0.0.1:8000 -c 1m -d 1m -r 5k/s --source-ports 2000-2999,4000 --holders 3',
    );
    assert.equal(spec.connections, 1_000_000);
    assert.equal(spec.holdMs, 60_000);
    assert.equal(spec.ratePerSec, 5000);
    assert.equal(spec.holders, 3);
    assert.deepEqual(spec.sources.ports, [
      { from: 2000, to: 2999 },
      { from: 4000, to: 4000 },
    ]);
  });

  it('say what stands in a PROXY header, where the target can read one', async () => {
    const proxied = await request('-t a:1 -c 1 --proxy-protocol v1 --proxy-source 10.0.0.0/8');
    assert.deepEqual(proxied.spec.proxyHeader, { version: 'v1', clients: '10.0.0.0/8' });
    await assert.rejects(request('-t a:1 -c 1 --proxy-source 10.0.0.0/8'), /none is sent/);
    await assert.rejects(request('-t self -c 1 --proxy-protocol v2'), /the built-in one does not/);
  });

  it('say when lost connections come back, where they are opened again', async () => {
    const base = '-t a:1 -c 10 --on-drop reopen';
    assert.equal('reopen' in (await request(base)).spec, false);
    const { spec } = await request(`${base} --reopen-after backoff:1s..60s --reopen-jitter 25%`);
    assert.deepEqual(spec.reopen, { kind: 'backoff', firstMs: 1_000, mostMs: 60_000, jitter: 0.25 });
    assert.deepEqual((await request(`${base} --reopen-jitter 100`)).spec.reopen, {
      kind: 'immediate',
      firstMs: 0,
      mostMs: 0,
      jitter: 1,
    });
    for (const flag of ['--reopen-after=fixed:1s', '--reopen-jitter=5%'])
      await assert.rejects(request(`-t a:1 -c 10 ${flag}`), isUsage(/only counted \| add --on-drop reopen/));
    await assert.rejects(
      request(`${base} --reopen-after backoff:9s..1s`),
      isUsage(/type .*backoff:1s\.\.9s/),
    );
  });

  it('say where the name of a back end stands, where the protocol has such a place', async () => {
    const { spec } = await request('-t http://a:1 -c 10 --backend-from header:X-Served-By');
    assert.equal(spec.backendFrom, 'header:X-Served-By');
    assert.equal((await request('-t a:1 -c 10 --backend-from /^(.)/')).spec.backendFrom, '/^(.)/');
    await assert.rejects(
      request('-t a:1 -c 1 --backend-from header:X'),
      isUsage(/a tcp:\/\/ target has no headers/),
    );
    await assert.rejects(
      request('-t a:1 -c 1 --probe whoami --backend-from /(.)/'),
      isUsage(/a whoami:\/\/ target says whom it sees/),
    );
  });

  it('let echo connections prove themselves every 10 s unless set otherwise', async () => {
    assert.equal((await request('-t echo://127.0.0.1:7 -c 1')).spec.probeEveryMs, 10_000);
    assert.equal((await request('-t echo://127.0.0.1:7 -c 1 --probe-every 3s')).spec.probeEveryMs, 3000);
    await assert.rejects(request('-t 127.0.0.1:7 -c 1 --probe-every 3s'), isUsage(/silent hold .*echo:\/\//));
  });

  it('give each protocol what it needs, and refuse what does not go with it', async () => {
    const { spec } = await request(
      '-t wss://chat.example/room -c 1 --ws-message hi --tls-servername a.example --insecure --host-header b.example',
    );
    assert.deepEqual(spec.protocolOptions, {
      path: '/room',
      host: 'chat.example',
      hostHeader: 'b.example',
      banner: null,
      message: 'hi',
      httpStatus: null,
      tls: { servername: 'a.example', ca: null, isVerified: false },
    });
    assert.equal(spec.probeEveryMs, 10_000);
    const banner = async (text: string): Promise<string | null | undefined> =>
      (await request(`-t 127.0.0.1:22 -c 1 --expect-banner ${text}`)).spec.protocolOptions?.banner;
    assert.deepEqual([await banner('any'), await banner('SSH-')], ['', 'SSH-']);
    assert.equal(
      (await request('-t http://h:1 -c 1 --http-status 404')).spec.protocolOptions?.httpStatus,
      404,
    );
    for (const [line, pattern] of [
      ['-t 127.0.0.1:1 -c 1 --ws-message hi', /--ws-message goes with ws/],
      ['-t ws://h -c 1 --insecure', /--insecure goes with tls/],
      ['-t ws://h -c 1 --expect-banner any', /--expect-banner goes with tcp/],
      ['-t http://h:1 -c 1 --http-status 99', /--http-status/],
      ['-t tls://h:1 -c 1 --tls-servername 10.0.0.1', /--tls-servername 10\.0\.0\.1 is not a host name/],
      ['-t tls://h:1 -c 1 --tls-ca /nowhere/ca.pem', /--tls-ca \/nowhere\/ca\.pem cannot be read \(ENOENT\)/],
      ['-t tls://h:1 -c 1 --tls-ca package.json', /holds no certificates/],
      ['-t tls://h:1 -c 1 --probe-every 3s', /tls:\/\/ is a silent hold/],
      ['-t ws://h/a -t ws://h/b -c 1', /one path/],
      ['-t http://h:1 -c 1 --host-header a/b', /--host-header a\/b is not a host/],
    ] as const) {
      await assert.rejects(request(line), isUsage(pattern), line);
    }
  });

  it('hold for as long as was said, or until Ctrl-C', async () => {
    const holdMs = async (text: string): Promise<number> =>
      (await request(`-t 127.0.0.1:1 -c 1 --duration ${text}`)).spec.holdMs;
    assert.deepEqual(
      [await holdMs('90s'), await holdMs('0'), await holdMs('forever'), await holdMs('0s')],
      [90_000, 0, 0, 0],
    );
  });

  it('are refused when they cannot be', async () => {
    await assert.rejects(request('-c 1'), isUsage(/--target is missing/));
    await assert.rejects(request('-t 127.0.0.1:1'), isUsage(/--conns is missing/));
    for (const bad of ['0', '-5', '1.5', '130K!', '1e3', '200m']) {
      await assert.rejects(request(`-t 127.0.0.1:1 -c ${bad}`), isUsage(/--conns/));
    }
    await assert.rejects(request('-t self -t 127.0.0.1:1 -c 1'), isUsage(/self alone/));
    await assert.rejects(request('-t 127.0.0.1:1 -t echo://127.0.0.1:2 -c 1'), isUsage(/one protocol/));
    await assert.rejects(request('-t 127.0.0.1:1 -c 1 --source-ip 999.1.1.1'), isUsage(/999/));
    await assert.rejects(request('-t 127.0.0.1:1 -c 1 --duration -1s'), isUsage(/--duration/));
    await assert.rejects(request('-t 127.0.0.1:1 -c 1 --holders 2000'), isUsage(/--holders/));
  });
});

describe('the endpoints of a run', () => {
  it('are one for each address and port, doubles once', async () => {
    const asked = await request('-t 127.0.0.1:8000-8002 -t 127.0.0.1:8001 -t [::1]:8000 -c 5');
    const { targets } = asked;
    const { endpoints, lines } = await resolveTargets(targets);
    assert.deepEqual(endpoints.map(formatEndpoint), [
      '127.0.0.1:8000',
      '127.0.0.1:8001',
      '127.0.0.1:8002',
      '[::1]:8000',
    ]);
    assert.deepEqual(lines, []);
    assert.equal(specOf(asked, endpoints).endpoints.length, 4);
  });

  it('are reported when they come from a name', async () => {
    const { targets } = await request('-t localhost:8000 -c 5');
    const { endpoints, lines } = await resolveTargets(targets);
    assert.ok(endpoints.length >= 1);
    assert.match(lines[0] ?? '', /^localhost resolves to /);
  });

  it('must not be more than can be counted', async () => {
    const { targets } = await request('-t 127.0.0.1:1-65535 -t 127.0.0.2:1-65535 -c 5');
    await assert.rejects(resolveTargets(targets), isUsage(/at most 65,536/));
  });
});

/** What a host resolves to, as the endpoints of a target of this host. */
async function addressesOf(host: string): Promise<string[]> {
  const [target] = (await request('-t 127.0.0.1:80 -c 1')).targets;
  assert(target !== undefined);
  const { endpoints } = await resolveTargets([{ ...target, host }]);
  return endpoints.map(({ address }) => address);
}

test('an IP literal returns itself, without brackets', async () => {
  assert.deepEqual(await addressesOf('127.0.0.1'), ['127.0.0.1']);
  assert.deepEqual(await addressesOf('[::1]'), ['::1']);
  assert.deepEqual(await addressesOf('2001:db8::7'), ['2001:db8::7']);
});

test('localhost resolves through the system to loopback addresses, each once', async () => {
  const addresses = await addressesOf('localhost');
  assert.ok(addresses.length >= 1);
  assert.equal(new Set(addresses).size, addresses.length);
  for (const address of addresses) assert.match(address, /^(127\.|::1$)/);
});

test('a name that does not resolve is a usage error with a command to check it', async () => {
  // .invalid never exists (RFC 6761).
  await assert.rejects(addressesOf('no-such-host.invalid'), (error: unknown) => {
    assert.ok(error instanceof BenchError);
    assert.equal(error.code, 'name-not-resolved');
    assert.equal(error.exitCode, 2);
    assert.match(error.message, /no-such-host\.invalid/);
    assert.match(error.hint, /getent ahosts no-such-host\.invalid/);
    assert.ok(error.cause instanceof Error);
    return true;
  });
});
