/**
 * Owns what is said about source addresses before the ramp: those that leave by another device, kernel settings that
 * stand in their way, and what `plan` says is missing. Each advice is followed, to see that it mends what it names.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Finding } from '../../src/base/errors.ts';
import type { Plan } from '../../src/report/plan-text.ts';
import { until } from '../support/bench-run.ts';
import { type HostSpec, whyNoNetwork } from '../support/network.ts';
import {
  CLIENT,
  PORT,
  SERVER,
  type SourceLab,
  serveOn,
  serverView,
  sourceLab,
} from '../support/source-lab.ts';

const skip = whyNoNetwork();

function networkTest(name: string, body: (t: TestContext) => Promise<void>): void {
  test(name, async (t) => {
    if (skip === null) await body(t);
    else t.skip(skip);
  });
}

/** Text as one line: the output is wrapped to the width of a terminal. */
function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ');
}

const TARGET = ['--target', `${SERVER}:${PORT}`];
/** 1,000 connections for each source. */
const THOUSAND_PORTS = ['--source-ports', '20000-20999'];

/** Client and server joined by two links: eth0 (10.9.0.0/24, where the target is) and eth1 (10.8.0.0/24). */
const TWO_LINKS: { client: Partial<HostSpec>; server: Partial<HostSpec> } = {
  client: {
    on: { lan: [`${CLIENT}/24`, '10.9.0.3/32'], back: ['10.8.0.2/24'] },
    sysctls: { 'net.ipv4.conf.all.rp_filter': 0, 'net.ipv4.conf.default.rp_filter': 0 },
  },
  server: {
    on: { lan: [`${SERVER}/24`], back: ['10.8.0.1/24'] },
    sysctls: { 'net.ipv4.conf.all.rp_filter': 0, 'net.ipv4.conf.default.rp_filter': 0 },
  },
};

/** Makes packets of a source leave by eth1, whatever the main table says. */
async function sendByEth1(lab: SourceLab, source: string): Promise<void> {
  await lab.client.must(
    ...['ip', 'route', 'replace', '10.9.0.0/24', 'via', '10.8.0.1', 'dev', 'eth1', 'table', '100'],
  );
  await lab.client.must('ip', 'rule', 'add', 'from', source, 'table', '100');
}

interface Planned {
  readonly code: number | null;
  readonly plan: Plan;
  finding(what: string): Finding | undefined;
}

/** Plans on the client, and reads the JSON. */
async function planOn(lab: SourceLab, ...args: string[]): Promise<Planned> {
  const { code, stdout, stderr } = await lab.client.bench([
    'plan',
    ...TARGET,
    ...args,
    '--json',
    '-',
    '--quiet',
  ]);
  assert.notEqual(stdout, '', stderr);
  const plan = JSON.parse(stdout) as Plan;
  return { code, plan, finding: (what) => plan.findings.find((one) => one.what === what) };
}

networkTest(
  'a source that leaves by another device is named before the ramp and left out; too few left are refused',
  async (t) => {
    const lab = await sourceLab(t, TWO_LINKS);
    await serveOn(lab, { workers: 1 });
    // The target answers it: that alone would not show that it takes another way than the others.
    await sendByEth1(lab, '10.9.0.3');
    const args = [...TARGET, ...THOUSAND_PORTS, '--source-ip', '10.9.0.2-10.9.0.3', '--duration', '2s'];
    const fits = lab.bench([...args, '--conns', '1000']);
    await until('the target has them', 60_000, async () => (await serverView(lab.server)).total === 1_000);
    assert.deepEqual((await serverView(lab.server)).bySource, { [CLIENT]: 1_000 });
    const { code, stdout, stderr } = await fits.result;
    assert.equal(code, 0, `${stdout}${stderr}`);
    assert.match(
      oneLine(stdout),
      /left out 1 of 2 source addresses: 10\.9\.0\.3 \(it is on eth0 and leaves by eth1\); the other 1 can hold 1,000 of 1,000/,
    );

    const refused = await lab.bench([...args, '--conns', '1001']).result;
    assert.equal(refused.code, 3, refused.stdout);
    const said = oneLine(`${refused.stdout}${refused.stderr}`);
    assert.match(said, /10\.9\.0\.3 \(it is on eth0 and leaves by eth1\)/);
    assert.match(said, /needs 1,001 tuples, has 1,000 \(1 source address x 1,000 ports x 1 endpoint\)/);
    assert.equal((await serverView(lab.server)).total, 0);
  },
);

networkTest(
  'strict rp_filter on the device of a source that leaves by another one is a warning; with a rule it holds',
  async (t) => {
    const lab = await sourceLab(t, TWO_LINKS);
    await serveOn(lab, { workers: 1 });
    await lab.client.sysctl('net.ipv4.conf.eth1.rp_filter', 1);
    const both = ['--source-ip', CLIENT, '--source-ip', '10.8.0.2', ...THOUSAND_PORTS, '--conns', '2000'];
    const strict = await planOn(lab, ...both);
    assert.equal(strict.code, 0);
    const { severity, message, fix } = strict.finding('rp-filter') ?? {};
    assert.equal(severity, 'warn');
    assert.match(
      message ?? '',
      /^10\.8\.0\.2 is on eth1, its packets leave by eth0, and rp_filter on eth1 is strict/,
    );
    await lab.client.must(...(fix ?? '').split(' '));
    assert.equal((await planOn(lab, ...both)).finding('rp-filter'), undefined, 'the advice mends it');

    await lab.client.sysctl('net.ipv4.conf.eth1.rp_filter', 1);
    const lost = await lab.bench([...TARGET, ...both, '--duration', '1s']).result;
    assert.equal(lost.code, 3, lost.stdout);
    const said = oneLine(`${lost.stdout}${lost.stderr}`);
    assert.match(said, /rp_filter on eth1 is strict \(1\)/);
    assert.match(said, /left out 1 of 2 source addresses: 10\.8\.0\.2 \(it is on eth1 and leaves by eth0\)/);

    await sendByEth1(lab, '10.8.0.2');
    assert.equal((await planOn(lab, ...both)).finding('rp-filter'), undefined, 'nothing to warn of');
    const held = lab.bench([...TARGET, ...both, '--duration', '2s']);
    await until('the target has them', 60_000, async () => (await serverView(lab.server)).total === 2_000);
    assert.deepEqual((await serverView(lab.server)).bySource, { [CLIENT]: 1_000, '10.8.0.2': 1_000 });
    assert.equal((await held.result).code, 0);
  },
);

networkTest(
  'sources that fall together with promote_secondaries off are a warning, and they do fall',
  async (t) => {
    const on = { lan: [`${CLIENT}/24`, '10.9.0.3/24'] };
    const lab = await sourceLab(t, { client: { on } });
    for (const name of ['all', 'eth0'])
      await lab.client.sysctl(`net.ipv4.conf.${name}.promote_secondaries`, 0);
    const off = await planOn(lab, '--conns', '100');
    const { severity, available, fix } = off.finding('promote-secondaries') ?? {};
    assert.deepEqual([off.code, severity, available], [0, 'warn', 2]);
    const text = await lab.client.bench(['plan', ...TARGET, '--conns', '100']);
    assert.match(
      oneLine(text.stdout),
      /2 sources share a subnet on eth0 and promote_secondaries is off: removing 10\.9\.0\.2 removes them all/,
    );
    const left = async (): Promise<boolean> =>
      (await lab.client.must('ip', '-br', '-4', 'addr', 'show', 'eth0')).includes('10.9.0.3/24');
    await lab.client.must('ip', 'addr', 'del', `${CLIENT}/24`, 'dev', 'eth0');
    assert.equal(await left(), false, 'the kernel does what was warned of');

    for (const address of on.lan) await lab.client.must('ip', 'addr', 'add', address, 'dev', 'eth0');
    await lab.client.must(...(fix ?? '').split(' '));
    assert.equal((await planOn(lab, '--conns', '100')).finding('promote-secondaries'), undefined);
    await lab.client.must('ip', 'addr', 'del', `${CLIENT}/24`, 'dev', 'eth0');
    assert.equal(await left(), true, 'the advice mends it');
  },
);

networkTest(
  'hundreds of addresses on one segment press on the neighbour table; behind a route they do not',
  async (t) => {
    const lab = await sourceLab(t, {
      client: { on: { lan: [`${CLIENT}/22`] } },
      server: { on: { lan: [`${SERVER}/22`] } },
    });
    const common = ['--source-ports', '20000-20009', '--alias-dev', 'auto'];
    const many = await planOn(lab, ...common, '--source-ip', '10.9.0.10-10.9.3.150', '--conns', '9000');
    const { severity, needed, message, fix } = many.finding('neighbour-table') ?? {};
    assert.deepEqual([many.code, severity, needed], [0, 'warn', 909]);
    // The setting is the whole kernel's and cannot be seen in a namespace.
    assert.match(message ?? '', /^909 source addresses on one segment: .* gc_thresh3, 1,024 by default$/);
    assert.match(fix ?? '', /gc_thresh3=3636.*--source-prefix/);
    const some = await planOn(lab, ...common, '--source-ip', '10.9.0.10-10.9.0.209', '--conns', '1900');
    assert.equal(some.finding('neighbour-table')?.severity, 'ok');
    const routed = await planOn(
      lab,
      '--source-prefix',
      '10.77.0.0/22',
      '--source-ports',
      '20000-20009',
      '--conns',
      '9000',
    );
    assert.deepEqual([routed.code, routed.finding('neighbour-table')], [0, undefined]);
  },
);

networkTest(
  'plan says how many addresses are missing, and the flag and the command that add them do',
  async (t) => {
    const lab = await sourceLab(t);
    const args = [...THOUSAND_PORTS, '--conns', '3000'];
    const short = await planOn(lab, ...args);
    assert.deepEqual([short.code, short.plan.wouldStart], [3, false]);
    const tuples = short.finding('tuples');
    assert.deepEqual([tuples?.severity, tuples?.needed, tuples?.available], ['refuse', 3_000, 1_000]);
    // Which addresses are free only the person knows: the advice has names for them, and says so.
    const filledIn = (advice: string): string =>
      advice.replaceAll('FREE_1', '10.9.0.51').replaceAll('FREE_2', '10.9.0.52');
    const [, count, flags = '', command = ''] =
      /^add (\d+) source addresses: (.*) \(by hand: (.*)\); for FREE_1, FREE_2 put IPv4 addresses that no other host has$/
        .exec(tuples?.fix ?? '')
        ?.map(filledIn) ?? [];
    assert.equal(count, '2', tuples?.fix ?? '');
    const text = await lab.client.bench(['plan', ...TARGET, ...args]);
    assert.equal(text.code, 3);
    assert(oneLine(text.stdout).includes(oneLine(tuples?.fix ?? '-')), text.stdout);

    const flagged = await planOn(lab, ...args, ...flags.split(' '));
    assert.deepEqual([flagged.code, flagged.plan.tuples], [0, 3_000]);
    assert.deepEqual([flagged.finding('aliases')?.severity, flagged.finding('aliases')?.needed], ['ok', 2]);

    // Named, and no word on who adds them: all are added by the command, not only those that are named.
    const named = [
      '--source-ip',
      '10.9.0.101-10.9.0.112',
      '--source-ports',
      '20000-20249',
      '--conns',
      '3000',
    ];
    const lacking = await planOn(lab, ...named);
    assert.equal(lacking.code, 3);
    const missing = lacking.finding('not-our-address');
    assert.match(missing?.message ?? '', /does not have 12 source addresses: 10\.9\.0\.101, .* and 4 more$/);
    const [, flag = '', byHand = ''] = /(--alias-dev \S+); or by hand: (.*)$/.exec(missing?.fix ?? '') ?? [];
    assert.equal((await planOn(lab, ...named, ...flag.split(' '))).code, 0);

    assert.deepEqual(await lab.aliases(), [], 'planning adds nothing');
    await lab.client.must('sh', '-c', command);
    assert.equal((await planOn(lab, ...args)).code, 0);
    await lab.client.must('sh', '-c', byHand);
    assert.equal((await planOn(lab, ...named)).code, 0);
  },
);

networkTest(
  'another address of the host tells that the only source is at fault, and not the target',
  async (t) => {
    const lab = await sourceLab(t, {
      client: { on: { lan: [`${CLIENT}/24`, '10.9.0.3/32'] } },
      server: {
        nft: `table inet test {\nchain in {\ntype filter hook input priority 0;\nip saddr ${CLIENT} tcp dport ${PORT} drop\n}\n}\n`,
      },
    });
    await serveOn(lab, { workers: 1 });
    const { code, stdout, stderr } = await lab.bench([
      ...[...TARGET, '--source-ip', CLIENT, '--conns', '100', '--duration', '1s', '--connect-timeout', '2s'],
    ]).result;
    assert.equal(code, 3, stdout);
    assert.match(
      oneLine(`${stdout}${stderr}`),
      /left out 1 of 1 source addresses: 10\.9\.0\.2 \(no answer within 4 s/,
    );
  },
);
