/**
 * Owns what becomes of a run when agents or the coordinator are lost, with the real times: a short cut costs nothing, after
 * 5 s nobody opens, after 15 s everything is closed, and only then does the quota go to others. What is open is counted
 * by `ss` on the target's host.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Coordinator,
  says,
  startAgent,
  startAt,
  startCoordinator,
  temporaryFolder,
} from '../support/agents.ts';
import { until } from '../support/bench-run.ts';
import { ControlProxy } from '../support/control-proxy.ts';
import { startNetTarget } from '../support/net-target.ts';
import { createNetwork, type Host, type Network, whyNoNetwork } from '../support/network.ts';
import { schemaErrors } from '../support/report-schema.ts';

const QUIET_MS = 5_000;
const LEASE_MS = 15_000;
const LOST_MS = 20_000;
/** `ss` is asked four times a second, on a machine that may be busy. */
const SIGHT_MS = 1_000;

const SERVER = '10.78.0.100';
const DESK = '10.78.0.200';
const skip = whyNoNetwork();

async function lan(t: TestContext, names: readonly string[]): Promise<Network> {
  const hosts = Object.fromEntries(
    names.map((name, index) => [name, { on: { lan: [`10.78.0.${index + 1}/24`] } }]),
  );
  const network = await createNetwork(t, {
    ...hosts,
    server: { on: { lan: [`${SERVER}/24`] } },
    desk: { on: { lan: [`${DESK}/24`] } },
  });
  const server = network.host('server');
  startAt(t, { host: server }, ['serve', '--host', '0.0.0.0', '--port', '8000'], { timeoutMs: 120_000 });
  await until('the server listens', 60_000, async () => (await server.must('ss', '-Hltn')).includes(':8000'));
  return network;
}

/** How many connections of each host the server had, and when. */
interface Sight {
  readonly atMs: number;
  readonly open: Readonly<Record<string, number>>;
  readonly total: number;
}

/** One process on the server's host that looks four times a second: starting one each time would take too long. */
const LOOK_AGAIN = `while :; do
  now=$EPOCHREALTIME
  counts=$(ss -Htn state established "src ${SERVER}:8000" |
    awk '{ sub(/:[0-9]+$/, "", $4); n[$4]++ } END { for (a in n) printf " %s=%d", a, n[a] }')
  echo "$now$counts"
  sleep 0.25
done`;

/** Looks at the server's host again and again. */
class Watch {
  readonly sights: Sight[] = [];
  readonly #nameOf: Readonly<Record<string, string>>;
  #rest = '';

  constructor(t: TestContext, server: Host, names: readonly string[]) {
    this.#nameOf = Object.fromEntries(names.map((name, index) => [`10.78.0.${index + 1}`, name]));
    const looking = server.spawn(['bash', '-c', LOOK_AGAIN], { timeoutMs: 120_000 });
    t.after(() => looking.child.kill('SIGKILL'));
    looking.child.stdout?.on('data', (text: string) => this.#take(text));
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const [now = '', ...counts] = line.split(' ');
      const open: Record<string, number> = {};
      for (const each of counts) {
        const [address = '', count = ''] = each.split('=');
        open[this.#nameOf[address] ?? address] = Number(count);
      }
      const total = Object.values(open).reduce((sum, count) => sum + count, 0);
      this.sights.push({ atMs: Number(now) * 1_000, open, total });
    }
  }

  /** What was open of one host from a moment on. */
  after(name: string, fromMs: number): number[] {
    return this.sights.filter(({ atMs }) => atMs >= fromMs).map(({ open }) => open[name] ?? 0);
  }

  between(name: string, fromMs: number, toMs: number): number[] {
    return this.sights
      .filter(({ atMs }) => atMs >= fromMs && atMs <= toMs)
      .map(({ open }) => open[name] ?? 0);
  }
}

function assertNoGrowth(counts: readonly number[], what: string): void {
  for (const [index, count] of counts.entries())
    assert(index === 0 || count <= counts[index - 1]!, `${what}: ${counts.join(' ')}`);
}

/** Opens nothing after the quiet time, and has closed everything after the lease. */
function assertLeaseKept(watch: Watch, name: string, cutMs: number): void {
  const quiet = watch.between(name, cutMs + QUIET_MS + SIGHT_MS, cutMs + LEASE_MS - 2_000);
  assert(quiet.length > 5 && quiet[0]! > 0, `${name} was holding: ${quiet.join(' ')}`);
  assertNoGrowth(quiet, `${name} opens nothing after ${QUIET_MS} ms`);
  const rest = watch.after(name, cutMs + LEASE_MS + SIGHT_MS);
  assert(
    rest.length > 0 && rest.every((count) => count === 0),
    `${name} has closed everything: ${rest.join(' ')}`,
  );
}

const dropFrom = (address: string): string =>
  `table inet cut_in {\n chain in {\n type filter hook input priority 0;\n ip saddr ${address} drop\n }\n }`;
const dropTo = (address: string): string =>
  `table inet cut_out {\n chain out {\n type filter hook output priority 0;\n ip daddr ${address} drop\n }\n }`;

/** An agent on each host, with a folder for what it leaves behind. */
function startAgents(t: TestContext, network: Network, run: Coordinator, names: readonly string[]) {
  const folder = temporaryFolder(t);
  return Object.fromEntries(
    names.map((name) => {
      const partial = `${folder}/${name}.json`;
      const running = startAgent(t, `${DESK}:7100`, name, run.tokenText, ['--partial-report', partial], {
        place: { host: network.host(name) },
        timeoutMs: 120_000,
      });
      return [name, { ...running, partial }];
    }),
  );
}

interface Partial {
  readonly agent: string;
  readonly why: string;
  readonly quota: number;
  readonly stats: { readonly established: number };
}

const readPartial = (path: string): Partial => JSON.parse(readFileSync(path, 'utf8')) as Partial;

describe('with the real times of the lease', { concurrency: 6 }, () => {
  it('cuts in one direction, a dead agent and a short cut: lost quotas go to the one that is left, after the lease', async (t) => {
    if (skip !== null) return t.skip(skip);
    const names = ['ada', 'bob', 'cyd', 'dan'] as const;
    const network = await lan(t, names);
    const run = startCoordinator(
      t,
      [
        ...['--target', `${SERVER}:8000`, '--conns', '4000', '--rate', '400/s', '--duration', '2s'],
        ...['--listen', '0.0.0.0:7100', '--expect-agents', '4', '--on-agent-loss', 'replace'],
      ],
      { place: { host: network.host('desk') }, timeoutMs: 120_000 },
    );
    await run.saw(/join with/);
    const agents = startAgents(t, network, run, names);
    const watch = new Watch(t, network.host('server'), names);
    await says(run, / ramping /);
    await sleep(2_000);
    const beforeCutMs = Date.now();
    await Promise.all([
      network.host('ada').nft(dropTo(DESK)),
      network.host('bob').nft(dropFrom(DESK)),
      network.host('dan').nft(`${dropTo(DESK)}\n${dropFrom(DESK)}`),
    ]);
    agents.cyd?.child.kill('SIGKILL');
    const cutMs = Date.now();
    await sleep(3_000);
    await network.host('dan').nft('delete table inet cut_in; delete table inet cut_out');
    const { code, stdout, stderr } = await run.result;

    assertLeaseKept(watch, 'ada', cutMs);
    assertLeaseKept(watch, 'bob', cutMs);
    const killed = watch.after('cyd', cutMs + SIGHT_MS);
    assert(
      killed.every((count) => count === 0),
      `holders end with their agent: ${killed.join(' ')}`,
    );
    for (const { total } of watch.sights) assert(total <= 4_000, `${total} connections, of 4,000`);
    const early = watch.between('dan', beforeCutMs, beforeCutMs + LOST_MS - SIGHT_MS);
    assert(
      early.every((count) => count <= 1_000),
      `nothing is handed over before the lease: ${early.join(' ')}`,
    );
    const grown = early
      .concat(watch.between('dan', cutMs + LOST_MS, cutMs + LOST_MS + 5_000))
      .map((count) => -count);
    assertNoGrowth(grown, 'a short cut costs no connection');
    assert.equal(Math.max(...watch.after('dan', cutMs)), 4_000);

    assert.equal(code, 0, `${stdout}${stderr}`);
    const report = run.report();
    assert.deepEqual(schemaErrors(report), []);
    assert.equal(report.connections.held, 4_000);
    assert.deepEqual(report.agents.map(({ name, quota, lost }) => [name, quota, lost]).toSorted(), [
      ['ada', 0, true],
      ['bob', 0, true],
      ['cyd', 0, true],
      ['dan', 4_000, false],
    ]);
    assert.match(report.notes.join('\n'), /1000 connections of agent ada were handed to others/);
    for (const name of ['ada', 'bob'] as const) {
      const ended = await agents[name]!.result;
      assert.equal(ended.code, 4);
      assert.match(ended.stderr, /no contact with the coordinator for 1[45] s; closing everything/);
      const partial = readPartial(agents[name]!.partial);
      assert.equal(partial.quota, 1_000);
      assert(partial.stats.established > 100, `${partial.stats.established}`);
    }
    assert.equal((await agents.dan!.result).code, 0);
  });

  it('a coordinator that is killed: every agent stops opening at 5 s, has closed everything at 15 s, and leaves its stats', async (t) => {
    if (skip !== null) return t.skip(skip);
    const names = ['ada', 'bob'] as const;
    const network = await lan(t, names);
    const run = startCoordinator(
      t,
      [
        ...['--target', `${SERVER}:8000`, '--conns', '4000', '--rate', '100/s', '--duration', '2s'],
        ...['--listen', '0.0.0.0:7100', '--expect-agents', '2'],
      ],
      { place: { host: network.host('desk') }, timeoutMs: 120_000 },
    );
    await run.saw(/join with/);
    const agents = startAgents(t, network, run, names);
    const watch = new Watch(t, network.host('server'), names);
    await says(run, / ramping /);
    await sleep(2_000);
    const killedMs = Date.now();
    run.child.kill('SIGKILL');
    await sleep(LEASE_MS + SIGHT_MS + 2_000);
    for (const name of names) {
      assertLeaseKept(watch, name, killedMs);
      const { code, stderr } = await agents[name]!.result;
      assert.equal(code, 4);
      assert.match(stderr, /its last stats are in .*\.json/);
      const { agent, why, quota, stats } = readPartial(agents[name]!.partial);
      assert.deepEqual({ agent, quota }, { agent: name, quota: 2_000 });
      assert.match(why, /no contact with the coordinator/);
      assert(stats.established >= Math.max(...watch.after(name, 0)), 'what was established is in the file');
    }
  });

  it('a cut of 3 s while holding costs nothing', async (t) => {
    const target = await startNetTarget(t);
    const run = startCoordinator(t, [
      ...[
        '--target',
        `127.0.0.1:${target.port}`,
        '--conns',
        '300',
        '--duration',
        '8s',
        '--expect-agents',
        '1',
      ],
    ]);
    const proxy = new ControlProxy(await run.port());
    t.after(() => proxy.close());
    const agent = startAgent(t, `127.0.0.1:${await proxy.listen()}`, 'ada', run.tokenText);
    await says(run, / holding /);
    proxy.cut();
    await says(run, /agent ada: contact is cut/);
    await sleep(3_000);
    proxy.heal();
    await says(run, /agent ada is back/);
    const { code, stdout, stderr } = await run.result;
    assert.equal(code, 0, `${stdout}${stderr}`);
    assert.equal((await agent.result).code, 0);
    assert.deepEqual(run.report().connections.dropped, {});
    assert.doesNotMatch(
      run.report().notes.join('\n'),
      /at the control port/,
      'an agent that comes back is not refused',
    );
    assert.equal((await target.counts()).accepted, 300, 'nothing was opened twice');
  });

  it('says again what was lost in a cut: the quota, the start, the hold, the stop, and `done`', async (t) => {
    const target = await startNetTarget(t);
    const run = startCoordinator(t, [
      ...['--target', `127.0.0.1:${target.port}`, '--conns', '300', '--rate', '100/s', '--duration', '5s'],
      ...['--expect-agents', '2'],
    ]);
    const port = await run.port();
    const proxies = [new ControlProxy(port), new ControlProxy(port)] as const;
    t.after(() => {
      for (const proxy of proxies) proxy.close();
    });
    const names = ['ada', 'bob'] as const;
    for (const [index, name] of names.entries()) {
      const join = `127.0.0.1:${await proxies[index]!.listen()}`;
      startAgent(t, join, name, run.tokenText, ['--source-ip', `127.0.0.${7 + index}`]);
      // What is said from now on does not reach the first one; then it is cut off, and comes back.
      if (index === 0) {
        await says(run, /ada here, 1 of 2 missing/);
        proxies[0].stall('down');
      }
    }
    const cut = async (proxy: ControlProxy): Promise<void> => {
      await sleep(1_500);
      proxy.cut();
      proxy.resume();
      await sleep(300);
      proxy.heal();
    };
    // The quota, and the start with it.
    await cut(proxies[0]);
    await says(run, / ramping /);
    // The start or the hold, whatever comes meanwhile.
    proxies[1].stall('down');
    await cut(proxies[1]);
    await says(run, / holding /);
    proxies[0].stall('down');
    await cut(proxies[0]);
    // The last words: `stop` does not reach the one, and `done` of the other does not arrive.
    proxies[1].stall('down');
    await says(run, / draining /);
    proxies[0].stall('up');
    await Promise.all(proxies.map(cut));
    const { code, stdout, stderr } = await run.result;
    assert.equal(code, 0, `${stdout}${stderr}`);
    assert.equal(run.report().connections.held, 300);
    assert.equal((await target.counts()).accepted, 300);
  });

  for (const { policy, ends } of [
    { policy: 'fail', ends: 'as soon as the loss is sure' },
    { policy: 'continue', ends: 'after the whole hold' },
  ] as const) {
    it(`--on-agent-loss ${policy}: the run ends ${ends}, incomplete, with exit 4`, async (t) => {
      const target = await startNetTarget(t);
      // Far longer than this test waits: a run that does not end for the loss is ended by its time limit.
      const holdMs = policy === 'fail' ? 600_000 : 24_000;
      const run = startCoordinator(
        t,
        [
          ...['--target', `127.0.0.1:${target.port}`, '--conns', '301', '--duration', `${holdMs}ms`],
          ...['--expect-agents', '2', '--on-agent-loss', policy],
        ],
        { timeoutMs: 240_000 },
      );
      const join = `127.0.0.1:${await run.port()}`;
      startAgent(t, join, 'ada', run.tokenText, ['--source-ip', '127.0.0.7']);
      const bob = startAgent(t, join, 'bob', run.tokenText, ['--source-ip', '127.0.0.8']);
      await says(run, / holding /);
      const heldMs = Date.now();
      bob.child.kill('SIGKILL');
      const { code, stdout } = await run.result;
      const tookMs = Date.now() - heldMs;
      assert.equal(code, 4, stdout);
      assert(tookMs > LOST_MS - 2_000, `the loss is sure after ${LOST_MS} ms, not after ${tookMs}`);
      if (policy === 'continue') assert(tookMs > holdMs - 1_000, `${Math.round(tookMs)} ms`);
      const report = run.report();
      assert.deepEqual(schemaErrors(report), []);
      assert.equal(report.verdict, 'incomplete');
      const kept = report.agents.find(({ name }) => name === 'ada');
      const lost = report.agents.find(({ name }) => name === 'bob');
      assert.deepEqual([kept?.lost, kept?.held, lost?.lost, lost?.held], [false, kept?.quota, true, 0]);
      assert.deepEqual(report.connections.dropped, { 'agent-lost': lost?.quota });
      assert.equal(report.connections.held, kept?.quota);
      assert.match(report.reason, /lost with their agent/);
    });
  }
});
