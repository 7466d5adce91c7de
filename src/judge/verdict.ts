/**
 * Owns the judgement of a finished run: pass, fail, incomplete or refused, the exit code, who ran out, and the one
 * sentence that says why. Must never gather a number or guess: what the counts cannot tell is called unknown.
 */
import assert from 'node:assert/strict';
import { formatSeconds } from '../base/clock.ts';
import { ExitCode, type Finding } from '../base/errors.ts';
import {
  type DropReason,
  type FailReason,
  isGeneratorDrop,
  isGeneratorFail,
  type Party,
} from '../base/outcome.ts';
import { formatCount } from '../base/units.ts';
import type { Stats } from '../stats/stats.ts';
import { type BlindHolder, limitsPhrase } from './generator-health.ts';
import type { Diagnosis, VerdictName } from './report.ts';
import type { RequirementResult } from './requirement.ts';

/** What a target reported of what it holds, where the user asked for that proof. */
export interface TargetProof {
  /** who was asked */
  readonly source: string;
  /** how many targets were asked, each at its own address */
  readonly targets: number;
  /** the most that it said it holds, of the answers during the hold; null: none came */
  readonly open: number | null;
  /** why a question brought no counts; null: each one did */
  readonly problem: string | null;
}

/** Everything that the verdict rests on. */
interface VerdictInput {
  /** how many connections were asked for, at least 1 */
  readonly connections: number;
  /** merged over all agents, final */
  readonly stats: Stats;
  /** the lowest number open (and verified, where probes run) while holding; 0 when the hold never began */
  readonly held: number;
  /** the most that the target must have been seen with, where it was asked for that */
  readonly provable: number;
  /** connections are closed and opened while the run goes on */
  readonly isChanging: boolean;
  readonly interrupted: 'SIGINT' | 'SIGTERM' | null;
  /** findings of severity `refuse`; when there is one, nothing was opened */
  readonly refusals: readonly Finding[];
  readonly agentsLost: number;
  /** agents with a quota whose final counts never came; then a pass cannot be claimed */
  readonly withoutFinalCounts: readonly string[];
  /** the kernel counted other numbers than we did: then a pass cannot be claimed */
  readonly kernelMismatch: boolean;
  /** the holder whose own stand-still leaves a gap in the proof; null: none */
  readonly blindHolder: BlindHolder | null;
  /** null: the target was not asked for its own count */
  readonly targetProof: TargetProof | null;
  /** addresses that the run connected to; several may be one host's */
  readonly targetAddresses: number;
  /** the run ended before the hold phase began */
  readonly endedBeforeHold: boolean;
  /** how every requirement came out, the default one included; a run passes when all hold */
  readonly requirements: readonly RequirementResult[];
  /** the requirement that could no longer hold, for which `--abort-early` ended the run */
  readonly abortedFor: string | null;
  /** what is beyond its bound in the generator */
  readonly generatorLimits: readonly string[];
  /** who ran out, by evidence, what explains most first */
  readonly diagnoses: readonly Diagnosis[];
}

export interface Verdict {
  readonly verdict: VerdictName;
  readonly exitCode: ExitCode;
  /** one sentence for a person */
  readonly reason: string;
  /** null when nothing ran out, or when the run was interrupted */
  readonly whoRanOut: Party | null;
}

/** What a reason says: who it speaks against, and the words after the count, for one and for many. */
interface Meaning {
  readonly party: Party;
  readonly one: string;
  readonly many: string;
}

function meaning(party: Party, one: string, many: string = one): Meaning {
  return { party, one, many };
}

const FAIL_MEANINGS: Readonly<Record<FailReason, Meaning>> = {
  refused: meaning('target', 'connect was refused', 'connects were refused'),
  timeout: meaning('unknown', 'connect timed out', 'connects timed out'),
  reset: meaning('target', 'connect was reset', 'connects were reset'),
  unreachable: meaning(
    'path',
    'connect found the target unreachable',
    'connects found the target unreachable',
  ),
  prohibited: meaning(
    'generator',
    'connect was prohibited by this host',
    'connects were prohibited by this host',
  ),
  handshake: meaning('target', 'handshake failed', 'handshakes failed'),
  tls: meaning('target', 'TLS handshake failed', 'TLS handshakes failed'),
  descriptors: meaning(
    'generator',
    'connect found no free descriptor on our side',
    'connects found no free descriptor on our side',
  ),
  memory: meaning('generator', 'connect found no memory on our side', 'connects found no memory on our side'),
  'source-exhausted': meaning(
    'generator',
    'connection found no free source port',
    'connections found no free source port',
  ),
  'source-lost': meaning(
    'generator',
    'connect lost its source address',
    'connects lost their source address',
  ),
  other: meaning('unknown', 'connect failed for another reason', 'connects failed for other reasons'),
};

const DROP_MEANINGS: Readonly<Record<DropReason, Meaning>> = {
  fin: meaning('target', 'was closed by the far side (FIN)', 'were closed by the far side (FIN)'),
  rst: meaning('target', 'was reset by the far side (RST)', 'were reset by the far side (RST)'),
  timeout: meaning('unknown', 'open connection timed out', 'open connections timed out'),
  unreachable: meaning('path', 'open connection became unreachable', 'open connections became unreachable'),
  'probe-timeout': meaning('unknown', 'probe was not answered in time', 'probes were not answered in time'),
  'probe-mismatch': meaning('target', 'probe was answered wrongly', 'probes were answered wrongly'),
  protocol: meaning('target', 'connection broke the protocol', 'connections broke the protocol'),
  tls: meaning('target', 'connection broke TLS', 'connections broke TLS'),
  'holder-lost': meaning(
    'generator',
    'was lost with its holder process',
    'were lost with their holder process',
  ),
  'agent-lost': meaning('generator', 'was lost with its agent', 'were lost with their agent'),
  'alias-lost': meaning(
    'generator',
    'was lost with its source address',
    'were lost with their source address',
  ),
  other: meaning('unknown', 'open connection was lost', 'open connections were lost'),
};

/** A word that is in no list means what `other` does. */
function meaningOf(
  meanings: Readonly<Record<string, Meaning>> & { readonly other: Meaning },
  reason: string,
): Meaning {
  const known = Object.hasOwn(meanings, reason) ? meanings[reason] : undefined;
  return known ?? meanings.other;
}

/** One reason for which connections are missing. */
interface Shortfall {
  readonly party: Party;
  readonly count: number;
  readonly text: string;
}

function shortfall(count: number, what: Meaning): Shortfall {
  return { party: what.party, count, text: `${formatCount(count)} ${count === 1 ? what.one : what.many}` };
}

function sumOf(shortfalls: readonly Shortfall[]): number {
  let sum = 0;
  for (const { count } of shortfalls) sum += count;
  return sum;
}

/** Every counted failure and drop, largest first. */
function countedShortfalls(stats: Stats): Shortfall[] {
  const list: Shortfall[] = [];
  for (const [reason, count] of Object.entries(stats.failed) as [FailReason, number][]) {
    const what = meaningOf(FAIL_MEANINGS, reason);
    assert((what.party === 'generator') === isGeneratorFail(reason), `different parties for ${reason}`);
    if (count > 0) list.push(shortfall(count, what));
  }
  for (const [reason, count] of Object.entries(stats.dropped) as [DropReason, number][]) {
    const what = meaningOf(DROP_MEANINGS, reason);
    assert((what.party === 'generator') === isGeneratorDrop(reason), `different parties for ${reason}`);
    if (count > 0) list.push(shortfall(count, what));
  }
  return list;
}

/**
 * All reasons for which connections are missing. Quota that was given up follows the larger counted cause: a target
 * that stopped accepting stalls the ramp, and so does a lost agent; alone it is the generator's.
 */
function shortfallsOf(input: VerdictInput): Shortfall[] {
  const { stats } = input;
  const list = countedShortfalls(stats);
  const { generator, others } = sidesOf(list);
  const isOurs = others.length === 0 || sumOf(generator) >= sumOf(others);
  if (stats.unattempted > 0) {
    const party = isOurs ? 'generator' : partyOf(others);
    list.push(shortfall(stats.unattempted, meaning(party, 'was never attempted', 'were never attempted')));
  }
  const missing = input.connections - input.held - sumOf(list);
  if (missing <= 0 || (input.endedBeforeHold && list.length > 0)) return list;
  if (input.isChanging && !input.endedBeforeHold && input.agentsLost === 0) {
    list.push(shortfall(missing, meaning('unknown', 'was not open in time', 'were not open in time')));
    return list;
  }
  const unanswered = input.endedBeforeHold ? 0 : Math.min(missing, stats.openMin - input.held);
  if (unanswered > 0) {
    const what = meaning('unknown', 'was open but did not answer', 'were open but did not answer');
    list.push(shortfall(unanswered, what));
  } else if (input.agentsLost > 0) {
    list.push(
      shortfall(missing, meaning('generator', 'was lost with its agent', 'were lost with their agent')),
    );
  } else if (!input.endedBeforeHold) {
    list.push(shortfall(missing, meaning('generator', 'is not accounted for', 'are not accounted for')));
  }
  return list;
}

function sidesOf(list: readonly Shortfall[]): { generator: Shortfall[]; others: Shortfall[] } {
  return {
    generator: list.filter(({ party }) => party === 'generator'),
    others: list.filter(({ party }) => party !== 'generator'),
  };
}

/** The party that most of the shortfall speaks against; of equals the one that is known better. */
function partyOf(list: readonly Shortfall[]): Party {
  const order: readonly Party[] = ['target', 'path', 'unknown', 'generator'];
  const counts = order.map((party) => sumOf(list.filter((one) => one.party === party)));
  return order[counts.indexOf(Math.max(...counts))] ?? 'unknown';
}

const REASONS_NAMED_MAX = 3;

/** The largest reasons in words. */
function wordsOf(list: readonly Shortfall[]): string {
  const sorted = [...list].sort((a, b) => b.count - a.count);
  const named = sorted.slice(0, REASONS_NAMED_MAX).map(({ text }) => text);
  const rest = sumOf(sorted.slice(REASONS_NAMED_MAX));
  if (rest > 0) named.push(`${formatCount(rest)} for further reasons`);
  return named.join(', ');
}

/** What is missing and in no diagnosis, because nothing was counted of it: it went with an agent, or our own count is wrong. */
function uncountedOf(list: readonly Shortfall[], diagnosed: readonly Diagnosis[]): number {
  const explained = diagnosed.reduce((sum, { count }) => sum + count, 0);
  return sumOf(list.filter(({ party }) => party === 'generator')) > explained
    ? sumOf(list.filter(({ party }) => party === 'generator')) - explained
    : 0;
}

/**
 * Who ran out: the party of the diagnosis that explains most, which is the first; where there is none, the party that the counts
 * speak against.
 */
function namedParty(
  diagnoses: readonly Diagnosis[],
  list: readonly Shortfall[],
): { party: Party; words: string } {
  const [main] = diagnoses;
  if (main !== undefined && uncountedOf(list, diagnoses) <= main.count)
    return { party: main.party, words: `; ${main.message}` };
  const { generator, others } = sidesOf(list);
  if (sumOf(generator) >= sumOf(others)) return { party: 'generator', words: '' };
  const party = partyOf(others);
  return { party, words: party === 'unknown' ? '; nothing tells target from path' : '' };
}

/** Judges a run that was neither refused nor interrupted and did not hold what was asked. */
function judgeShortfall(input: VerdictInput): Verdict {
  const list = shortfallsOf(input);
  const { generator, others } = sidesOf(list);
  const named = namedParty(input.diagnoses, list);
  const [first, second] = sumOf(generator) >= sumOf(others) ? [generator, others] : [others, generator];
  let reason = `${formatCount(input.held)} of ${formatCount(input.connections)} held: `;
  if (input.abortedFor !== null) reason += `ended early because ${input.abortedFor} could no longer hold`;
  else if (input.endedBeforeHold) reason += 'the run ended before the hold began';
  if ((input.endedBeforeHold || input.abortedFor !== null) && first.length > 0) reason += ', ';
  reason += wordsOf(first);
  if (second.length > 0) reason += `; besides, ${wordsOf(second)}`;
  reason += named.words;
  if (named.party === 'generator')
    return { verdict: 'incomplete', exitCode: ExitCode.incomplete, reason, whoRanOut: 'generator' };
  return { verdict: 'fail', exitCode: ExitCode.notHeld, reason, whoRanOut: named.party };
}

/** Metrics that say how fast or how late, and not how many: a slow generator spoils them. */
const TIMING_METRICS =
  /^(?:connect|intended|probe|message)_|^(?:rate|ramp_seconds|retransmits|messages_(?:rate|sent|answered|late))$/;

const NO_PARTY = { party: 'unknown' } as const;

/** Judges a run that held what was asked and broke another requirement. */
function judgeRequirements(input: VerdictInput, broken: readonly RequirementResult[]): Verdict {
  const words = broken.map(({ requirement, actualText }) => `${requirement} (was ${actualText})`).join(', ');
  const early =
    input.abortedFor === null ? '' : `ended early because ${input.abortedFor} could no longer hold: `;
  const reason = `${early}required and not kept: ${words}`;
  const isTiming = broken.every(({ metric }) => TIMING_METRICS.test(metric));
  const isSlow = isTiming && input.generatorLimits.length > 0;
  const list = shortfallsOf(input);
  // Nothing is missing where a figure alone was not kept: then no count names a party.
  const { party } = sumOf(list) === 0 ? NO_PARTY : namedParty(input.diagnoses, list);
  if (isSlow || party === 'generator') {
    const why = isSlow ? `; generator limited: ${limitsPhrase(input.generatorLimits)}` : '';
    return {
      verdict: 'incomplete',
      exitCode: ExitCode.incomplete,
      reason: reason + why,
      whoRanOut: 'generator',
    };
  }
  return { verdict: 'fail', exitCode: ExitCode.notHeld, reason, whoRanOut: party };
}

function judgeInterrupted(input: VerdictInput, signal: 'SIGINT' | 'SIGTERM'): Verdict {
  const asked = formatCount(input.connections);
  const reason = input.endedBeforeHold
    ? `interrupted by ${signal} before the hold began: ${formatCount(input.stats.established)} of ${asked} had been established`
    : `interrupted by ${signal} while holding: ${formatCount(input.held)} of ${asked} held until then`;
  const exitCode = signal === 'SIGINT' ? ExitCode.interrupted : ExitCode.terminated;
  return { verdict: 'incomplete', exitCode, reason, whoRanOut: null };
}

/**
 * Judges a run. In this order: refused (exit 3), interrupted (130 or 143), every requirement kept (0; but incomplete, 4,
 * when the kernel counted otherwise), and else the larger cause: the generator (incomplete, 4) or target and path (fail, 1).
 * @param input final numbers
 * @returns the verdict with its exit code and one sentence
 */
export function judgeRun(input: VerdictInput): Verdict {
  assert(input.connections >= 1, 'a run asks for at least one connection');
  assert(input.held >= 0 && input.held <= input.connections, `${input.held} of ${input.connections} held`);
  const [first, ...more] = input.refusals;
  if (first !== undefined) {
    const reason = more.length === 0 ? first.message : `${first.message} (and ${more.length} more)`;
    return { verdict: 'refused', exitCode: ExitCode.refused, reason, whoRanOut: 'generator' };
  }
  if (input.interrupted !== null) return judgeInterrupted(input, input.interrupted);
  const broken = input.requirements.filter(({ passed }) => !passed);
  const isShort = broken.some(({ metric }) => metric === 'held');
  // A run that was ended early for something else never had the time to hold.
  const cause = input.abortedFor === null ? null : broken.find((one) => one.requirement === input.abortedFor);
  if (cause !== undefined && cause !== null && cause.metric !== 'held')
    return judgeRequirements(input, [cause]);
  if (isShort) return judgeShortfall(input);
  if (broken.length > 0) return judgeRequirements(input, broken);
  return judgeKept(input);
}

/** Why the count of the target itself is no proof, where it was asked for; null: it is, or was not asked for. */
function whyUnseen({ targetProof, targetAddresses, provable }: VerdictInput): string | null {
  if (targetProof === null) return null;
  const { source, targets, open, problem } = targetProof;
  if (open === null) {
    return ` by our own count, but the target was to report its own (${source}) and did not during the hold: ${problem ?? 'the hold was over before an answer'}`;
  }
  if (open >= provable) return null;
  const unaskedHint =
    targets < targetAddresses
      ? `; ${formatCount(targets)} of ${formatCount(targetAddresses)} target addresses were asked: type --target-stats for each target`
      : '';
  return ` by our own count, but the target (${source}) reported no more than ${formatCount(open)} open connections${unaskedHint}`;
}

/** Why a run that kept every requirement proves nothing all the same; null: it does prove it. */
function whyUnproven(input: VerdictInput): string | null {
  if (input.withoutFinalCounts.length > 0) {
    const [first, ...more] = input.withoutFinalCounts;
    const others = more.length === 0 ? '' : ` and ${formatCount(more.length)} more`;
    return `, but agent ${first}${others} never sent its final counts`;
  }
  const unseen = whyUnseen(input);
  if (unseen !== null) return unseen;
  if (input.kernelMismatch) return ' by our own count, but the kernel counted otherwise';
  // With all held, what was lost has been replaced before the hold.
  if (input.agentsLost > 0 && input.held < input.connections) {
    const agents = input.agentsLost === 1 ? 'an agent was' : `${formatCount(input.agentsLost)} agents were`;
    return `, which is enough, but ${agents} lost with all that was held there`;
  }
  if (input.blindHolder !== null) {
    const { id, forMs } = input.blindHolder;
    return ` by our own count, but holder ${id} stood still for ${formatSeconds(forMs)}, in which no overdue answer was noticed`;
  }
  if (input.requirements.length === 0 && input.held < input.connections)
    return ', and no requirement was judged';
  if (input.abortedFor === null) return null;
  return `, but the run was ended early because ${input.abortedFor} could no longer hold`;
}

/** Judges a run that kept every requirement. */
function judgeKept(input: VerdictInput): Verdict {
  const held = `${formatCount(input.held)} of ${formatCount(input.connections)} held`;
  const why = whyUnproven(input);
  if (why !== null) {
    // What the target itself does not have, or does not say, is no fault of ours that is known of.
    if (whyUnseen(input) === why)
      return { verdict: 'fail', exitCode: ExitCode.notHeld, reason: held + why, whoRanOut: 'unknown' };
    return {
      verdict: 'incomplete',
      exitCode: ExitCode.incomplete,
      reason: held + why,
      whoRanOut: 'generator',
    };
  }
  const required = input.requirements
    .filter(({ isDefault }) => !isDefault)
    .map(({ requirement }) => requirement);
  const asRequired =
    required.length > 0 && input.held < input.connections ? `, as required (${required.join(', ')})` : '';
  const limited =
    input.generatorLimits.length > 0
      ? `; generator limited: ${limitsPhrase(input.generatorLimits)}, so latencies are not the target's`
      : '';
  return { verdict: 'pass', exitCode: ExitCode.held, reason: held + asRequired + limited, whoRanOut: null };
}
