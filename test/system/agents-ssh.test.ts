/**
 * Owns agents that are started through the user's own OpenSSH client: a real sshd on two hosts of a network, with keys and
 * a configuration of its own. Must never touch the machine's sshd, its keys or anybody's ~/.ssh.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { says, startAt, temporaryFolder } from '../support/agents.ts';
import { until } from '../support/bench-run.ts';
import { createNetwork, type Host, type Network, whyNoNetwork } from '../support/network.ts';
import { cliPath, type RunningCli } from '../support/run-cli.ts';
import { HANG_MS } from '../support/waiting.ts';

const SSHD = '/usr/sbin/sshd';
const skip = whyNoNetwork() ?? (existsSync(SSHD) ? null : 'openssh-server is not installed');
const SERVER = '10.79.0.100';
const HOSTS = { ada: '10.79.0.1', bob: '10.79.0.2' } as const;
const NOBODY = '10.79.0.66';

interface Lab {
  readonly network: Network;
  readonly folder: string;
  /** what the run needs to get in */
  readonly flags: readonly string[];
}

/** Two hosts with an sshd each, one with a server, one where the run is typed. */
async function lab(t: TestContext): Promise<Lab> {
  const network = await createNetwork(t, {
    ada: { on: { lan: [`${HOSTS.ada}/24`] } },
    bob: { on: { lan: [`${HOSTS.bob}/24`] } },
    server: { on: { lan: [`${SERVER}/24`] } },
    desk: { on: { lan: ['10.79.0.200/24'] } },
  });
  const folder = temporaryFolder(t);
  const key = join(folder, 'key');
  const hostKey = join(folder, 'host-key');
  for (const path of [key, hostKey])
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path]);
  const authorized = join(folder, 'authorized');
  writeFileSync(authorized, execFileSync('ssh-keygen', ['-y', '-f', key]));
  chmodSync(authorized, 0o600);
  const sshdConfig = join(folder, 'sshd_config');
  writeFileSync(
    sshdConfig,
    [
      `HostKey ${hostKey}`,
      `AuthorizedKeysFile ${authorized}`,
      ...['PidFile none', 'UsePAM no', 'PermitRootLogin prohibit-password', 'PasswordAuthentication no'],
      // The folder lies in /tmp, which everybody may write to.
      'StrictModes no',
      // A shell that sshd starts reads the user's start file, whose commands are not ours and may wait for something.
      `SetEnv HOME=${folder}`,
    ].join('\n'),
  );
  const known = join(folder, 'known');
  const clientConfig = join(folder, 'ssh_config');
  writeFileSync(clientConfig, `UserKnownHostsFile ${known}\nStrictHostKeyChecking accept-new\n`);
  // sshd wants it, and Debian makes it at boot.
  mkdirSync('/run/sshd', { recursive: true });
  for (const name of ['ada', 'bob'] as const) {
    const host = network.host(name);
    const sshd = host.spawn([SSHD, '-D', '-e', '-f', sshdConfig], { timeoutMs: 120_000 });
    t.after(() => sshd.child.kill('SIGKILL'));
    await until(`sshd of ${name} listens`, 60_000, async () =>
      (await host.must('ss', '-Hltn')).includes(':22'),
    );
  }
  const server = network.host('server');
  startAt(t, { host: server }, ['serve', '--host', '0.0.0.0', '--port', '8000'], { timeoutMs: 120_000 });
  await until('the server listens', HANG_MS, async () =>
    (await server.must('ss', '-Hltn')).includes(':8000'),
  );
  const flags = [...[`--ssh-option=-i ${key} -F ${clientConfig}`, '--target', `${SERVER}:8000`]];
  return { network, folder, flags };
}

function startRun(
  t: TestContext,
  { network, flags }: Lab,
  args: readonly string[],
  program = `${process.execPath} ${cliPath}`,
): RunningCli {
  const all = [...flags, '--ssh-command', program, ...args];
  return startAt(t, { host: network.host('desk') }, all, { timeoutMs: 120_000 });
}

/** Processes of ours on a host: agents and holders. */
function ours(host: Host): number[] {
  return host.pids().filter((pid) => {
    try {
      return execFileSync('cat', [`/proc/${pid}/cmdline`], { encoding: 'latin1' }).includes('c100k-bench');
    } catch {
      return false;
    }
  });
}

async function heldFrom(network: Network, address: string): Promise<number> {
  const text = await network
    .host('server')
    .must('ss', '-Htn', 'state', 'established', `src ${SERVER}:8000 and dst ${address}`);
  return text.split('\n').filter(Boolean).length;
}

describe('agents over ssh', { concurrency: 3 }, () => {
  const both = `root@${HOSTS.ada},root@${HOSTS.bob}`;

  it('starts one on each host, holds, stops, and nothing is left', async (t) => {
    if (skip !== null) return t.skip(skip);
    const here = await lab(t);
    const { network } = here;
    const run = startRun(t, here, ['--ssh', both, '--conns', '3001', '--duration', '5s']);
    await says(run, / holding /);
    const counts = [await heldFrom(network, HOSTS.ada), await heldFrom(network, HOSTS.bob)];
    assert.deepEqual(counts.toSorted(), [1_500, 1_501]);
    // Neither token nor key is in any command line, on any host: `ps` shows them all.
    const shown = execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' });
    assert.match(shown, /agent --join ssh-client:\d+ --name root@10\.79\.0\.1 --token-stdin/);
    assert.doesNotMatch(shown, /c100k1\./);
    const { code, stdout, stderr } = await run.result;
    assert.equal(code, 0, `${stdout}${stderr}`);
    assert.match(stdout, /root@10\.79\.0\.[12] +1,501/);
    assert.doesNotMatch(stderr, /ssh exited/);
    await until('both agents are gone', HANG_MS, () =>
      ['ada', 'bob'].every((name) => ours(network.host(name)).length === 0),
    );
  });

  it('ends both agents when the run is killed', async (t) => {
    if (skip !== null) return t.skip(skip);
    const here = await lab(t);
    const { network } = here;
    const run = startRun(t, here, ['--ssh', both, '--conns', '3000', '--duration', '10m']);
    await says(run, / holding /);
    assert.equal((await heldFrom(network, HOSTS.ada)) + (await heldFrom(network, HOSTS.bob)), 3_000);
    const killedMs = Date.now();
    run.child.kill('SIGKILL');
    await until('both agents are gone', HANG_MS, () =>
      ['ada', 'bob'].every((name) => ours(network.host(name)).length === 0),
    );
    t.diagnostic(`both were gone after ${Date.now() - killedMs} ms`);
    assert.equal((await heldFrom(network, HOSTS.ada)) + (await heldFrom(network, HOSTS.bob)), 0);
  });

  it('names a host that cannot be reached, and one where the program is missing, and gives up at once', async (t) => {
    if (skip !== null) return t.skip(skip);
    const here = await lab(t);
    // Who waits for agents that cannot come is ended by the time limit of this test.
    const waits = ['--wait-agents', '10m'];
    const [unreachable, missing] = await Promise.all([
      startRun(t, here, [
        ...['--ssh', `root@${HOSTS.ada},root@${NOBODY}`, '--conns', '100', '--duration', '1s', ...waits],
      ]).result,
      startRun(
        t,
        here,
        ['--ssh', `root@${HOSTS.bob}`, '--conns', '100', '--duration', '1s', ...waits],
        'no-such-program',
      ).result,
    ]);
    assert.equal(unreachable.code, 4, unreachable.stderr);
    assert.match(
      unreachable.stderr,
      /host root@10\.79\.0\.66: ssh exited with 255: .*(No route to host|timed out)/,
    );
    assert.match(unreachable.stderr, /none could be started on root@10\.79\.0\.66\n/);
    assert.equal(missing.code, 4, missing.stderr);
    assert.match(missing.stderr, /host root@10\.79\.0\.2: ssh exited with 127: .*not found/);
    await until(
      'the agent that could be started is gone',
      60_000,
      () => ours(here.network.host('ada')).length === 0,
    );
  });
});
