/**
 * Owns what an agent says on stderr about its own course, one line for each change: whom it waits for and why, what it was given,
 * what it does, and how the run ended. `journalctl` shows it of an agent that runs as a service. What comes twice, as after a cut,
 * is said once. Must never say it for the agent that a run forks on its own host: that one's person watches the run.
 */
import { formatEndpoint } from '../base/endpoint.ts';
import { counted, formatCount, formatDuration } from '../base/units.ts';
import type { AgentMessage, CoordinatorMessage, CoordinatorMessageOf } from '../control/message.ts';
import type { Allowance } from '../plan/allowance.ts';
import type { EndReason } from '../run/run-event.ts';
import { holdWords } from '../run/run-spec.ts';

/** Lines about cuts and returns in one run. */
const CONTACT_LINES_MAX = 20;

/** Why a run ends, in words; a later coordinator may have other reasons. */
const END_WORDS: Readonly<Record<EndReason['type'] | 'lease-over', string>> = {
  held: 'the hold is over',
  'nothing-open': 'nothing is open any more',
  interrupted: 'the run was interrupted',
  'requirement-broken': 'a requirement can no longer hold',
  refused: 'the run was refused',
  'agents-missing': 'not all agents came',
  'agents-not-ready': 'not all agents were ready in time',
  'agents-lost': 'agents were lost',
  'lease-over': 'it was out of contact for too long',
};

interface LogOptions {
  /** as it calls itself */
  readonly name: string;
  /** where the coordinator is */
  readonly host: string;
  readonly port: number;
  readonly joinTimeoutMs: number;
  readonly allowance: Pick<Allowance, 'isOwner'>;
  /** one line for a person */
  readonly onNote: (line: string) => void;
}

/** What one agent process says, over all the runs that it serves. */
export class AgentLog {
  readonly #options: LogOptions;
  readonly #where: string;
  #name: string;
  /** what was said last about the way to the coordinator */
  #waitingFor: string | null = null;
  /** what was said of this run */
  readonly #said = new Set<string>();
  #quota = 0;
  #holdMs = 0;
  #leaseMs = 0;
  #contactLines = 0;
  #isCut = false;
  #hasVerdict = false;

  constructor(options: LogOptions) {
    const { host, port, name } = options;
    this.#options = options;
    this.#where = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    this.#name = name;
  }

  /** What the run calls it; as it calls itself where it has not heard otherwise. */
  get name(): string {
    return this.#name;
  }

  #say(line: string): void {
    const { allowance, onNote } = this.#options;
    if (!allowance.isOwner) onNote(`agent ${this.#name}: ${line}`);
  }

  /** Says it once in a run. */
  #sayOnce(line: string): void {
    if (this.#said.has(line)) return;
    this.#said.add(line);
    this.#say(line);
  }

  /** It is about to join. */
  connecting(): void {
    if (this.#waitingFor !== null) return;
    this.#waitingFor = '';
    const most = formatDuration(this.#options.joinTimeoutMs);
    this.#say(`joining the coordinator at ${this.#where}, for up to ${most}`);
  }

  /** The coordinator is not there yet. The same reason is said once, however often it is tried. */
  waiting(error: unknown): void {
    // Its text names the place first, which is here already.
    const why = (error as Error).message.split(': ').slice(1).join(': ');
    if (why === this.#waitingFor) return;
    this.#waitingFor = why;
    this.#say(`waiting for the coordinator at ${this.#where}: ${why}`);
  }

  /** The coordinator does not want it, or goes away: one with --stay asks again and again, and hears the same. */
  refusedBy(problem: string): void {
    const what = `the coordinator said: ${problem}`;
    if (what === this.#waitingFor) return;
    this.#waitingFor = what;
    this.#options.onNote(`agent ${this.#name}: ${what}`);
  }

  /** What this agent has sent, where it is a change. */
  sent(message: AgentMessage): void {
    if (message.type === 'offer') {
      const { connectionsMax, boundBy } = message;
      this.#sayOnce(
        `this host can hold ${formatCount(connectionsMax)} (bound by ${boundBy}); waiting for the other agents and its quota`,
      );
    }
    if (message.type === 'ready')
      this.#sayOnce(
        `ready with ${counted(message.holders, 'holder', 'holders')}; waiting until every agent is`,
      );
  }

  /** What the coordinator has said, where it is a change. */
  heard(message: CoordinatorMessage): void {
    switch (message.type) {
      case 'spec':
        this.#joined(message);
        break;
      case 'quota':
        this.#given(message.connections);
        break;
      case 'start':
        this.#sayOnce(`opening ${counted(this.#quota, 'connection', 'connections')}`);
        break;
      case 'hold':
        this.#sayOnce(`every agent has opened; holding ${holdWords(this.#holdMs)}`);
        break;
      case 'stop': {
        const { reason } = message;
        const words = reason in END_WORDS ? END_WORDS[reason as keyof typeof END_WORDS] : reason;
        this.#sayOnce(`${words}: counting and closing`);
        break;
      }
      case 'resumed':
        if (this.#isCut) this.#contact('back at the coordinator');
        this.#isCut = false;
        break;
      case 'verdict':
        if (!this.#hasVerdict) this.#say(`done: ${message.text}`);
        this.#hasVerdict = true;
        break;
      default:
    }
  }

  #joined({ agent, spec, leaseMs }: CoordinatorMessageOf<'spec'>): void {
    if (this.#said.has('joined')) return;
    this.#said.add('joined');
    // The way to the next run is said again.
    this.#waitingFor = null;
    this.#holdMs = spec.holdMs;
    this.#leaseMs = leaseMs;
    const [first, ...more] = spec.endpoints;
    const target = first === undefined ? '' : ` to ${formatEndpoint(first)}`;
    const others = more.length === 0 ? '' : ` and ${counted(more.length, 'more endpoint', 'more endpoints')}`;
    const renamed = agent === undefined ? '' : `, as ${agent} because another agent has this name`;
    if (agent !== undefined) this.#name = agent;
    this.#say(
      `joined the run at ${this.#where}${renamed}: ${counted(spec.connections, 'connection', 'connections')} in all` +
        `${target}${others} (${spec.protocol}), held ${holdWords(spec.holdMs)}`,
    );
  }

  #given(connections: number): void {
    if (this.#said.has('quota') && connections <= this.#quota) return;
    const isMore = this.#said.has('quota');
    this.#said.add('quota');
    this.#quota = connections;
    const quota = counted(connections, 'connection', 'connections');
    this.#say(isMore ? `the quota grew to ${quota}: another agent was lost` : `quota: ${quota}`);
  }

  /** Contact is cut in a run, and a new link is tried. @param why null: not known */
  cut(why: string | null): void {
    if (this.#isCut) return;
    this.#isCut = true;
    const reason = why === null ? '' : ` (${why})`;
    this.#contact(
      `contact with the coordinator is cut${reason}; trying again for ${formatDuration(this.#leaseMs)}`,
    );
  }

  #contact(line: string): void {
    this.#contactLines += 1;
    if (this.#contactLines < CONTACT_LINES_MAX) this.#say(line);
    if (this.#contactLines === CONTACT_LINES_MAX) this.#say('further cuts are not shown');
  }

  /** Everything of a run is closed, and its end is not waited for any longer: its coordinator says no verdict, or waits for others. */
  doneAlone(): void {
    if (!this.#hasVerdict)
      this.#say('done: everything is closed; the verdict of the run was not said in time');
  }

  /** What comes next is of another run. */
  runBegins(): void {
    this.#hasVerdict = false;
    this.#said.clear();
    this.#name = this.#options.name;
    this.#quota = 0;
    this.#contactLines = 0;
    this.#isCut = false;
  }
}
