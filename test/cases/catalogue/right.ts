/** Owns cases that came out right before any rule was changed, and must stay so. Must never grow by a case that is wrong today. */
import { setTimeout as sleep } from 'node:timers/promises';
import { cliPath } from '../../support/run-cli.ts';
import type { CaseSpec } from '../case.ts';
import type { Expected } from '../expectation.ts';
import { type PlayedRun, SERVER, type Stage } from '../stage.ts';
import { typed } from './parts.ts';

const HOSTS = `127.0.0.1 localhost
${SERVER} dual.example
2001:db8::1 dual.example
${SERVER} my_service
`;

async function dualStack(stage: Stage, args: string, mode = 'echo'): Promise<PlayedRun> {
  const { client, server } = await stage.pair({ client: { etc: { hosts: HOSTS } } });
  const command = [
    process.execPath,
    cliPath,
    'serve',
    '--host',
    '::',
    '--port',
    '8000',
    '--workers',
    '1',
    '--mode',
    mode,
  ];
  await stage.start(server, command, [8_000]);
  return await stage.run(client, typed(args), { far: server });
}

function held(count: number, says: readonly RegExp[] = []): Expected {
  return { exit: 0, party: null, rule: null, held: count, says };
}

export const RIGHT_CASES: readonly CaseSpec[] = [
  {
    name: 'link-flaps',
    fault: "the target's link is down for 4 s, less than the probe timeout",
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 -c 500 -d 14s --probe-every 2s`), {
        far: server,
        during: async (running) => {
          await running.saw(/holding/);
          await sleep(3_000);
          await server.must('ip', 'link', 'set', 'eth0', 'down');
          await sleep(4_000);
          await server.must('ip', 'link', 'set', 'eth0', 'up');
        },
      });
    },
    expected: held(500),
  },
  {
    name: 'name-with-unreachable-family',
    fault: 'a name with an IPv6 address, and no IPv6 here',
    reports: ['testssl/testssl.sh#1927'],
    play: (stage) => dualStack(stage, '-t echo://dual.example:8000 -c 1000 -d 1s'),
    expected: held(1_000, [/IPv6/]),
  },
  {
    name: 'name-with-underscore',
    fault: 'a name with an underscore, as compose files have',
    reports: ['docker/compose#472'],
    play: (stage) => dualStack(stage, '-t echo://my_service:8000 -c 10 -d 1s'),
    expected: held(10),
  },
  {
    name: 'mapped-address',
    fault: 'an IPv4-mapped IPv6 address as target',
    reports: ['internetstandards/Internet.nl#655'],
    play: (stage) => dualStack(stage, `-t echo://[::ffff:${SERVER}]:8000 -c 10 -d 1s`),
    expected: held(10),
  },
  {
    name: 'dual-stack-whoami',
    fault: 'a dual-stack whoami server sees IPv4 clients as mapped addresses',
    play: (stage) => dualStack(stage, `-t whoami://${SERVER}:8000 -c 500 -d 1s`, 'whoami'),
    expected: held(500, [/as itself 500/]),
  },
  {
    name: 'first-process-of-a-container',
    fault: 'the program is process 1 of its pid namespace and gets SIGTERM',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      const args = typed(`-t echo://${SERVER}:8000 -c 500 -d 60s --no-progress`);
      const running = client.spawn([
        'unshare',
        '--pid',
        '--fork',
        '--mount-proc',
        process.execPath,
        cliPath,
        ...args,
      ]);
      await running.saw(/holding/);
      const { stdout } = await client.run([
        'cat',
        `/proc/${running.child.pid}/task/${running.child.pid}/children`,
      ]);
      await client.must('kill', '-TERM', stdout.trim().split(' ')[0] ?? '');
      const { code, stdout: text } = await running.result;
      return {
        command: `c100k-bench ${args.join(' ')}`,
        exitCode: code,
        report: null,
        text: text.replace(/\s+/g, ' '),
        farSide: null,
        truth: {},
        wire: null,
        counters: {},
        aftermath: null,
      };
    },
    expected: { exit: 143, party: null, says: [/INCOMPLETE/] },
  },
];
