/**
 * Owns the check of source addresses before the ramp, runs that follow each other over a real link, and wrong input.
 */
import assert from 'node:assert/strict';
import { networkTest } from '../support/network-test.ts';
import { cliPath } from '../support/run-cli.ts';
import { CLIENT, PORT, SERVER, serveOn, serverView, sourceLab } from '../support/source-lab.ts';

/** Text as one line: the output is wrapped to the width of a terminal. */
function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ');
}

/** A ruleset that drops what comes in and matches. */
function dropping(match: string): string {
  return `table inet test {\nchain in {\ntype filter hook input priority 0;\n${match} drop\n}\n}\n`;
}

const DROP_103 = dropping('ip saddr 10.9.0.103');

networkTest(
  'a source that gets no way back is named before the ramp and left out; too few left are refused',
  async (t) => {
    const lab = await sourceLab(t, { server: { nft: DROP_103 } });
    await serveOn(lab, { workers: 1 });
    const before = await lab.addresses();
    const common = ['--target', `${SERVER}:${PORT}`, '--duration', '1s', '--source-ports', '20000-20999'];
    const three = ['--source-ip', '10.9.0.101-10.9.0.103', '--alias-dev', 'auto'];
    const fits = lab.bench([...common, ...three, '--conns', '2000']);
    const { code, stdout, stderr } = await fits.result;
    assert.equal(code, 0, `${stdout}${stderr}`);
    assert.match(
      oneLine(stdout),
      /left out 1 of 3 source addresses: 10\.9\.0\.103 \(no answer within 4 s from 10\.9\.0\.1:8000\); the other 2 can hold 2,000 of 2,000 connections/,
    );
    assert.deepEqual(fits.report().bySource, { '10.9.0.101': 1_000, '10.9.0.102': 1_000 });
    assert.equal(await lab.addresses(), before);

    // A fourth address is taken in its place only when the quota needs it.
    const four = lab.bench([
      ...common,
      '--source-ip',
      '10.9.0.101-10.9.0.104',
      '--alias-dev',
      'auto',
      '--conns',
      '2800',
    ]);
    assert.equal((await four.result).code, 0);
    assert.deepEqual(Object.keys(four.report().bySource).sort(), ['10.9.0.101', '10.9.0.102', '10.9.0.104']);

    const refused = await lab.bench([...common, ...three, '--conns', '2001']).result;
    assert.equal(refused.code, 3, refused.stdout);
    const said = oneLine(`${refused.stdout}${refused.stderr}`);
    assert.match(said, /left out 1 of 3 source addresses: 10\.9\.0\.103/);
    assert.match(said, /needs 2,001 tuples, has 2,000 \(2 source addresses x 1,000 ports x 1 endpoint\)/);
    assert.equal((await serverView(lab.server)).total, 0);
    assert.equal(await lab.addresses(), before);
  },
);

networkTest(
  'aliases that the target cannot answer are refused; a target that is down is counted, not refused',
  async (t) => {
    const lab = await sourceLab(t);
    await serveOn(lab, { workers: 1 });
    const common = [
      '--target',
      `${SERVER}:${PORT}`,
      '--duration',
      '1s',
      '--conns',
      '100',
      '--connect-timeout',
      '2s',
    ];
    // The server has no route to 10.77.0.0/16: its own way back is missing.
    const lost = await lab.bench([...common, '--source-ip', '10.77.0.1-10.77.0.2', '--alias-dev', 'eth0'])
      .result;
    assert.equal(lost.code, 3, lost.stdout);
    assert.match(
      oneLine(`${lost.stdout}${lost.stderr}`),
      /left out 2 of 2 source addresses: 10\.77\.0\.1 \(no answer/,
    );
    await lab.server.nft(dropping('ip saddr 10.9.0.0/16'));
    const down = lab.bench([...common]);
    assert.equal((await down.result).code, 1, 'the target did not hold');
    assert.deepEqual(down.report().connections.failed, { timeout: 100 });
    assert(
      down.report().findings.some((finding) => finding.what === 'route-check' && finding.severity === 'warn'),
    );
  },
);

networkTest(
  'a filter that knows source ports is named before the ramp, with what it lets through; sources stay',
  async (t) => {
    const lab = await sourceLab(t, { server: { nft: dropping('tcp sport 1024-32767') } });
    await serveOn(lab, { workers: 1 });
    const common = ['--target', `${SERVER}:${PORT}`, '--duration', '1s', '--conns', '50'];
    const found = async (...flags: string[]) => {
      const run = lab.bench([...common, '--connect-timeout', '2s', ...flags]);
      await run.result;
      return run.report().findings.filter(({ what }) => what === 'source-ports' || what === 'route-check');
    };
    const [first, ...others] = await found();
    assert.deepEqual([first?.what, first?.severity, others], ['source-ports', 'warn', []]);
    assert.match(
      first?.message ?? '',
      /^source ports: connects from \S+ to 10\.9\.0\.1:8000 are answered from port 65535 and from one of the kernel's choice \(\d+-\d+\), and not from port 1024: /,
    );
    // Where no port of the plan comes through, the kernel's own choice still tells the filter from a dead target.
    const [none] = await found('--source-ports', '20000-20999');
    assert.match(
      none?.message ?? '',
      /answered from one of the kernel's choice .*and not from port 20000 or 20999/,
    );
    assert.match(none?.fix ?? '', /^--source-ports \d+-\d+$/);
    assert.deepEqual(await found(...(none?.fix ?? '').split(' ')), []);
  },
);

networkTest(
  'a second run straight after the first works with --close fin and with --close rst',
  async (t) => {
    const lab = await sourceLab(t);
    await serveOn(lab, { workers: 1 });
    for (const close of ['fin', 'rst']) {
      for (const round of [1, 2]) {
        const run = lab.bench([
          ...['--target', `${SERVER}:${PORT}`, '--conns', '2000', '--duration', '500ms', '--close', close],
          ...['--source-ports', '20000-20999', '--source-ip', '10.9.0.101-10.9.0.102', '--alias-dev', 'auto'],
        ]);
        const { code, stdout, stderr } = await run.result;
        assert.equal(code, 0, `${close}, run ${round}: ${stdout}${stderr}`);
        assert.equal(run.report().connections.held, 2_000);
      }
      assert.deepEqual(await lab.aliases(), []);
    }
    // The server is left with nothing: every FIN was answered before the aliases went.
    assert.doesNotMatch(
      await lab.server.must('ss', '-Htn', 'state', 'all', `sport = :${PORT}`),
      /LAST-ACK|CLOSE-WAIT/,
    );
  },
);

networkTest('with TCP timestamps off, tuples in TIME_WAIT are refused before the start', async (t) => {
  const lab = await sourceLab(t, { client: { sysctls: { 'net.ipv4.tcp_timestamps': 0 } } });
  await serveOn(lab, { workers: 1 });
  const args = [
    '--target',
    `${SERVER}:${PORT}`,
    '--conns',
    '1000',
    '--duration',
    '500ms',
    '--source-ports',
    '20000-20999',
  ];
  const first = await lab.bench([...args, '--close', 'fin']).result;
  assert.equal(first.code, 0, first.stdout);
  const second = await lab.bench([...args, '--close', 'fin']).result;
  assert.equal(second.code, 3, second.stdout);
  assert.match(
    oneLine(`${second.stdout}${second.stderr}`),
    /\d+ tuples towards the target are in TIME_WAIT and TCP timestamps are off: unusable for 60 s/,
  );
});

networkTest(
  'an address that another host on the segment has is a warning, where arping is installed',
  async (t) => {
    const lab = await sourceLab(t, { server: { on: { lan: [`${SERVER}/24`, '10.9.0.101/24'] } } });
    if ((await lab.client.run(['arping', '-V'])).code !== 0) {
      t.skip('arping is not installed');
      return;
    }
    await serveOn(lab, { workers: 1 });
    const run = lab.bench([
      ...[
        '--target',
        `${SERVER}:${PORT}`,
        '--conns',
        '1500',
        '--duration',
        '500ms',
        '--source-ports',
        '20000-20999',
      ],
      ...['--source-ip', '10.9.0.101-10.9.0.103', '--alias-dev', 'auto'],
    ]);
    const { stdout, stderr } = await run.result;
    assert.match(
      oneLine(`${stdout}${stderr}`),
      /another host on the segment already has 10\.9\.0\.101 \(at [0-9a-f:]+\)/,
    );
  },
);

networkTest('wrong sources are refused with one clear line and a hint, and nothing is added', async (t) => {
  const lab = await sourceLab(t);
  const before = await lab.addresses();
  const rows: [args: string[], code: number, said: RegExp][] = [
    [['--source-ip', '10.9.0.9-10.9.0.5'], 2, /ends before it starts.*type 10\.9\.0\.5-10\.9\.0\.9/],
    [['--source-ip', '10.0.0.0/8'], 2, /16,777,214; at most 65,536 are possible/],
    [['--source-ip', '10.9.0.5', '--source-ip', '10.9.0.4-10.9.0.6'], 2, /10\.9\.0\.5 is named twice/],
    [
      ['--target', `[fd09::1]:${PORT}`, '--source-ip', '10.9.0.5'],
      3,
      /the source address 10\.9\.0\.5 is IPv4, and the target has only IPv6 endpoints/,
    ],
    [
      ['--source-ip', '10.9.0.5', '--alias-dev', 'nosuch0'],
      3,
      /this host has no device nosuch0.*--alias-dev with one of: eth0/,
    ],
    [['--source-ip', '10.9.0.5', '--alias-dev', 'a b'], 2, /"a b" is not the name of a device/],
    [['--alias-dev', 'auto'], 2, /--alias-dev adds addresses, and --source-ip names none/],
    [
      ['--source-ip', '10.9.0.255', '--alias-dev', 'auto'],
      3,
      /10\.9\.0\.255 is the broadcast address of 10\.9\.0\.0\/24 on eth0/,
    ],
    [
      ['--source-ip', '10.9.0.0', '--alias-dev', 'auto'],
      3,
      /10\.9\.0\.0 is the address of the network 10\.9\.0\.0\/24 on eth0/,
    ],
    [
      ['--source-ip', SERVER, '--alias-dev', 'auto'],
      3,
      /the source address 10\.9\.0\.1 is the target itself/,
    ],
    [['--source-ip', '10.9.0.5'], 3, /does not have the source address 10\.9\.0\.5.*--alias-dev auto/],
    [['--source-prefix', '10.9.0.0/24'], 3, /contains the target 10\.9\.0\.1/],
    [['--source-prefix', '10.1.0.0'], 2, /has no prefix length/],
    [['--source-prefix', '10.1.0.1/20'], 2, /an address inside a network/],
    [['--source-ip', '10.9.0.5', '--alias-dev', 'auto', '--alias-lease', '1s'], 2, /at least 5s|5s/],
  ];
  for (const [args, code, said] of rows) {
    const target = args.includes('--target') ? [] : ['--target', `${SERVER}:${PORT}`];
    const plan = await lab.client.run([
      process.execPath,
      cliPath,
      'plan',
      ...target,
      '--conns',
      '100',
      ...args,
    ]);
    const text = oneLine(`${plan.stdout}${plan.stderr}`);
    assert.equal(plan.code, code, `${args.join(' ')}: ${text}`);
    assert.match(text, said, args.join(' '));
  }
  assert.equal(await lab.addresses(), before);
});

networkTest('without root the plan says exactly what would have been run', async (t) => {
  const lab = await sourceLab(t);
  const args = ['--target', `${SERVER}:${PORT}`, '--conns', '60000', '--source-ip', '10.9.0.101-10.9.0.102'];
  const command = [process.execPath, cliPath, 'plan', ...args, '--alias-dev', 'auto'];
  const { code, stdout, stderr } = await lab.client.run([
    'setpriv',
    '--bounding-set',
    '-net_admin',
    '--inh-caps',
    '-net_admin',
    ...command,
  ]);
  assert.equal(code, 3, stderr);
  assert.match(
    stdout,
    /^ {6}ip addr add 10\.9\.0\.101\/32 dev eth0 && ip addr add 10\.9\.0\.102\/32 dev eth0; or run as root$/m,
  );
  assert.match(
    oneLine(stdout),
    /2 addresses must be added to eth0 first, and this process may not \(CAP_NET_ADMIN is missing\)/,
  );
  assert.match(oneLine(stdout), /REFUSED/);
  assert.equal((await lab.client.must('ip', '-br', 'addr', 'show', 'eth0')).includes(CLIENT), true);
});
