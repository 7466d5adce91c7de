/**
 * Owns cases of filters: on our own host, on the target's, on the way; and peers that refuse by themselves. Must never touch a
 * rule outside of the case's own namespaces.
 */
import type { CaseSpec } from '../case.ts';
import type { Expected } from '../expectation.ts';
import { FAR_SERVER, type PlayedRun, SERVER, type Stage } from '../stage.ts';
import { filterRule, typed } from './parts.ts';

const OWN: Expected = { exit: 4, party: 'generator', rule: 'generator-firewall', explains: 300, held: 0 };

/** A server that would take all, and a filter on one of the two hosts. */
async function filtered(
  stage: Stage,
  where: 'client' | 'server',
  nft: string,
  args: string,
): Promise<PlayedRun> {
  const { client, server } = await stage.pair({ [where]: { nft } });
  await stage.serve(server, 8_000, ['--mode', 'echo']);
  return await stage.run(client, typed(`-t ${args}`), { far: server });
}

export const FIREWALL_CASES: readonly CaseSpec[] = [
  {
    name: 'own-output-drop',
    fault: 'our own firewall drops what goes out to the target',
    play: (stage) =>
      filtered(
        stage,
        'client',
        filterRule('output', 'tcp dport 8000 drop'),
        `echo://${SERVER}:8000 -c 300 -d 2s --connect-timeout 3s`,
      ),
    expected: OWN,
  },
  {
    name: 'own-input-drop',
    fault: "our own firewall drops the target's answers",
    play: (stage) =>
      filtered(
        stage,
        'client',
        filterRule('input', 'tcp sport 8000 drop'),
        `echo://${SERVER}:8000 -c 300 -d 2s --connect-timeout 3s`,
      ),
    expected: OWN,
  },
  {
    name: 'own-output-reset',
    fault: 'our own firewall rejects with a reset: it looks as if no process listened',
    play: (stage) =>
      filtered(
        stage,
        'client',
        filterRule('output', 'tcp dport 8000 reject with tcp reset'),
        `echo://${SERVER}:8000 -c 300 -d 2s`,
      ),
    expected: OWN,
  },
  {
    name: 'own-output-prohibited',
    fault: 'our own firewall rejects with ICMP',
    play: (stage) =>
      filtered(
        stage,
        'client',
        filterRule('output', 'tcp dport 8000 reject with icmp type admin-prohibited'),
        `echo://${SERVER}:8000 -c 300 -d 2s --connect-timeout 3s`,
      ),
    expected: OWN,
  },
  {
    name: 'far-input-drop',
    fault: "the target's firewall drops what comes in",
    looksLike: 'own-output-drop',
    play: (stage) =>
      filtered(
        stage,
        'server',
        filterRule('input', 'tcp dport 8000 drop'),
        `echo://${SERVER}:8000 -c 300 -d 2s --connect-timeout 3s`,
      ),
    expected: {
      exit: 1,
      party: 'unknown',
      rule: 'unknown',
      explains: 300,
      held: 0,
      never: [/our own firewall/],
    },
  },
  {
    name: 'no-listener',
    fault: 'the target is up, and no process listens on the port',
    looksLike: 'own-output-reset',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 -c 300 -d 2s`), { far: server });
    },
    expected: { exit: 1, party: 'target', rule: 'target-refused', explains: 300, held: 0 },
  },
  {
    name: 'firewalld-admin-prohibited',
    fault: 'the target rejects with ICMP admin-prohibited, and its kernel limits how many it sends',
    reports: ['firewalld/firewalld#1452', 'istio/istio#46431'],
    play: (stage) =>
      filtered(
        stage,
        'server',
        filterRule('input', 'tcp dport 8000 counter reject with icmp type admin-prohibited'),
        `${SERVER}:8000 -c 1000 -d 3s --connect-timeout 5s`,
      ),
    expected: { exit: 1, party: 'path', rule: 'path-rejected', explains: 1_000, held: 0 },
  },
  {
    name: 'firewalld-port-unreachable',
    fault: 'the same with ICMP port-unreachable, which the kernel reports as refused',
    play: (stage) =>
      filtered(
        stage,
        'server',
        filterRule('input', 'tcp dport 8000 counter reject with icmp type port-unreachable'),
        `${SERVER}:8000 -c 1000 -d 3s --connect-timeout 5s`,
      ),
    expected: {
      exit: 1,
      party: 'path',
      rule: 'path-rejected',
      explains: 1_000,
      held: 0,
      never: [/nobody listens/],
    },
  },
  {
    name: 'router-has-no-route',
    fault: 'a router on the way has no route to the target, and says so now and then',
    looksLike: 'firewalld-admin-prohibited',
    play: async (stage) => {
      const { client, router, server } = await stage.routed();
      await router.must('ip', 'route', 'add', 'unreachable', `${FAR_SERVER}/32`);
      return await stage.run(client, typed(`-t ${FAR_SERVER}:8000 -c 500 -d 2s --connect-timeout 4s`), {
        far: server,
      });
    },
    expected: { exit: 1, party: 'path', rule: 'path-unreachable', explains: 500, held: 0 },
  },
];
