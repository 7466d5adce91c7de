/**
 * Tests the agents that a run starts, by ssh through a program of that name that stands for OpenSSH's client; the words about
 * those that are waited for; and the error when they did not come.
 */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { StandStill } from '../../src/base/clock.ts';
import { ExitCode } from '../../src/base/errors.ts';
import { agentToken, claimsOf, generateToken, parseToken } from '../../src/control/token.ts';
import { neverRan, StartedAgents, waitingNote } from '../../src/coordinator/expected-agents.ts';
import { LOCAL_AGENT, type RunOptions } from '../../src/coordinator/run-settings.ts';
import { AgentTable, newAgent } from '../../src/run/agent-record.ts';
import type { RunEvent } from '../../src/run/run-event.ts';
import type { RunTerms } from '../../src/run/run-spec.ts';
import { initialRunState, type RunState } from '../../src/run/run-transition.ts';
import { runSpec } from '../run/run-spec-fixture.ts';
import { settled, until } from '../support/waiting.ts';
import { FAKE_AGENT_ENTRY } from './fake-agent.ts';
import { runOptions } from './lied-to-run.ts';

const TERMS: RunTerms = {
  agentsExpected: 3,
  gatherMs: 1,
  prepareMs: 1,
  stallMs: 1,
  drainMs: 1,
  leaseMs: 1,
  onAgentLoss: 'fail',
};

const ssh = (failed: readonly string[], hosts: readonly string[]) => ({
  failed,
  missing: (present: Pick<ReadonlySet<string>, 'has'>) => hosts.filter((host) => !present.has(host)),
});

function gathering(...names: readonly string[]): RunState {
  const agents = names.reduce((table, name) => table.with(newAgent(name, 0)), AgentTable.empty());
  return { ...initialRunState(runSpec(), TERMS, 0), agents };
}

test('while agents are missing the note says who is here, how many are not, and by ssh which', () => {
  assert.equal(waitingNote(gathering(), 3, null), 'waiting for agents: none here, 3 of 3 missing');
  assert.equal(
    waitingNote(gathering('a'), 3, ssh([], ['a', 'b', 'c'])),
    'waiting for agents: a here, 2 of 3 missing: b, c',
  );
});

test('nothing is said once all are here and in contact, or where no agent is waited for', () => {
  const full = gathering('a', 'b', 'c');
  assert.equal(waitingNote(full, 3, null), null);
  const cut = { ...full, agents: full.agents.with({ ...newAgent('b', 0), isCut: true }) };
  assert.equal(waitingNote(cut, 3, null), 'waiting for agents: a, b (cut off), c here, 0 of 3 missing');
  assert.equal(waitingNote(gathering(), 0, null), null);
  assert.equal(waitingNote({ ...gathering(), phase: 'ramping' }, 3, null), null);
});

test('of many agents ten are named', () => {
  const names = Array.from({ length: 12 }, (_, index) => `n${index}`);
  const state = { ...gathering(...names), terms: { ...TERMS, agentsExpected: 13 } };
  assert.match(waitingNote(state, 13, null) ?? '', /: n0, .*, n9 and 2 more here, 1 of 13 missing$/);
});

test('a run that no agent came to says who came, for how long it waited, and what to do', () => {
  const missing = { type: 'agents-missing', joined: ['a'], silent: ['b'], expected: 3 } as const;
  const byHand = neverRan(missing, 1_200, null);
  assert.equal(byHand?.message, '3 agent(s) expected, only a came in 2 s; b came and stopped answering');
  assert.match(byHand?.hint ?? '', /--wait-agents/);
  assert.equal(byHand?.exitCode, ExitCode.incomplete);
  const bySsh = neverRan(missing, 1_200, ssh([], ['a', 'b', 'c']));
  assert.match(bySsh?.message ?? '', /; missing: c$/);
  assert.match(bySsh?.hint ?? '', /ssh -o BatchMode=yes/);
  assert.match(neverRan(missing, 0, ssh(['c'], ['c']))?.message ?? '', /; none could be started on c$/);
});

test('a run whose agents were not ready names them, and any other end is no error', () => {
  assert.match(neverRan({ type: 'agents-not-ready', missing: ['a', 'b'] }, 0, null)?.message ?? '', /a, b$/);
  assert.equal(neverRan({ type: 'held' }, 0, null), null);
  assert.equal(neverRan({ type: 'agents-lost', lost: ['a'] }, 0, null), null);
});

/**
 * A client that writes its arguments and its first line into files named after its host, which is the argument behind `--`.
 * `bad` fails at once as a host without a key does; `done` ends in order; any other waits for the end of its input.
 */
const SSH = `#!/bin/sh
all="$*"
while [ "$1" != -- ]; do shift; done
host=$2
printf '%s' "$all" > "$FAKE_SSH_FOLDER/$host.args"
read -r line
printf '%s' "$line" > "$FAKE_SSH_FOLDER/$host.token"
case $host in
  bad) echo 'warning first' >&2; echo 'Permission denied (publickey).' >&2; exit 255 ;;
  done) exit 0 ;;
esac
while read -r line; do :; done
echo gone > "$FAKE_SSH_FOLDER/$host.ended"
`;

interface Started {
  readonly agents: StartedAgents;
  readonly notes: string[];
  readonly events: RunEvent[];
  readonly still: StandStill;
  /** what a client left in one of its files; null: nothing yet */
  readonly file: (name: string) => string | null;
}

/** Agents that are started, of a run that gathers. */
function begun(t: TestContext, hosts: readonly string[], change: Partial<RunOptions> = {}): Started {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-ssh-'));
  writeFileSync(join(folder, 'ssh'), SSH);
  chmodSync(join(folder, 'ssh'), 0o755);
  const { PATH } = process.env;
  process.env.PATH = `${folder}:${PATH}`;
  process.env.FAKE_SSH_FOLDER = folder;
  const notes: string[] = [];
  const events: RunEvent[] = [];
  const still = new StandStill(1_000, 0);
  const options = runOptions({
    remoteAgents: hosts.length,
    ssh: {
      hosts,
      command: 'npx c100k-bench',
      sshArguments: ['-p', '2222'],
      agentArguments: ['--holders', '4'],
      advertise: null,
    },
    ...change,
  });
  const agents = new StartedAgents(options, still, {
    state: () => gathering(),
    dispatch: (event) => events.push(event),
    note: (line) => notes.push(line),
  });
  t.after(async () => {
    await agents.stop();
    process.env.PATH = PATH;
    delete process.env.FAKE_SSH_FOLDER;
    rmSync(folder, { recursive: true, force: true });
  });
  agents.start(4_711);
  const file = (name: string): string | null =>
    existsSync(join(folder, name)) ? readFileSync(join(folder, name), 'utf8') : null;
  return { agents, notes, events, still, file };
}

test('an agent by ssh gets its own token as the first line of its input, never as an argument', async (t) => {
  const token = generateToken();
  const { file } = begun(t, ['ada@far'], { token });
  await until('it has its token', () => Boolean(file('ada@far.token')));
  const own = parseToken(file('ada@far.token') ?? '');
  assert.equal(claimsOf(own.identity)?.name, 'ada@far');
  const args = file('ada@far.args') ?? '';
  assert.equal(
    args,
    '-o BatchMode=yes -o ConnectTimeout=10 -T -p 2222 -- ada@far ' +
      'npx c100k-bench agent --join ssh-client:4711 --name ada@far --token-stdin --holders 4',
  );
  for (const secret of [own.key, token.key]) assert(!args.includes(secret.toString('base64url')));
});

test('a host that cannot be reached is named with what ssh said last, and the gathering ends once all were tried', async (t) => {
  const { agents, notes, events } = begun(t, ['bad', 'ada', 'done']);
  await until('the gathering ends', () => events.length > 0);
  assert(events.every(({ type }) => type === 'gathering-hopeless'));
  assert.deepEqual(notes, ['host bad: ssh exited with 255: Permission denied (publickey).']);
  assert.deepEqual(agents.bySsh?.failed.toSorted(), ['bad', 'done']);
  assert.deepEqual(agents.bySsh?.missing(new Set(['ada'])), ['bad', 'done']);
});

test('the end of its input ends an agent by ssh, without a line about it', async (t) => {
  const { agents, notes, file } = begun(t, ['ada', 'bob']);
  await until('both are up', () => file('ada.token') !== null && file('bob.token') !== null);
  await settled('they end', agents.stop());
  assert.deepEqual([file('ada.ended'), file('bob.ended'), notes], ['gone\n', 'gone\n', []]);
});

test('only the agent that this run forks has the key of its name', (t) => {
  const token = generateToken();
  const { agents } = begun(t, [], { ssh: null, token, hasLocalAgent: true, entryPath: FAKE_AGENT_ENTRY });
  const other = agentToken(token, { name: LOCAL_AGENT, expiresSec: null, targets: null });
  const known = agents.keyFor(other.identity)?.key;
  assert(
    known !== undefined && !known.equals(other.key),
    'a token from the master token does not get in under this name',
  );
  assert.deepEqual(agents.keyFor(token.identity)?.key, token.key, 'the master token gets in');
  assert.equal(agents.isImpostor(LOCAL_AGENT, token.identity), true, 'and not under this name');
  assert.equal(agents.isImpostor('ada', token.identity), false);
  assert.equal(agents.isImpostor(LOCAL_AGENT, other.identity), false);
  const without = begun(t, [], { ssh: null, token }).agents;
  assert.deepEqual(without.keyFor(other.identity)?.key, other.key, 'no agent is forked, so the name is free');
  assert.equal(without.isImpostor(LOCAL_AGENT, token.identity), false);
});

test('a local agent that says nothing for 30 s of attended time is given up, and the gathering with it', async (t) => {
  const { agents, notes, events, still } = begun(t, [], {
    ...{ ssh: null, hasLocalAgent: true, entryPath: FAKE_AGENT_ENTRY },
  });
  let nowMs = 0;
  const attend = (seconds: number): void => {
    for (let look = 0; look < seconds; look++) {
      nowMs += 1_000;
      still.look(nowMs);
    }
    agents.checkLocal();
  };
  attend(20);
  agents.heard(LOCAL_AGENT);
  attend(30);
  assert.deepEqual(events, []);
  attend(1);
  assert.deepEqual(
    events.map(({ type }) => type),
    ['agent-left', 'gathering-hopeless'],
  );
  assert.deepEqual(notes, ['the local agent said nothing for 31.0 s, as a stopped process does']);
});
