/**
 * Owns `npm run cases [-- all | part-of-a-name | =name ... --record | --list | --page | --jobs=N | --share=N]`: plays each case on its own stage,
 * several at a time, and says what came out beside what must. Without a name it plays what every commit must show, and a share of the others that
 * changes from day to day. The page docs/DIAGNOSIS.md is made of the recordings. Must never call a case passed that was not played: a missing peer fails the suite by name.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { whyNoNetwork } from '../support/network.ts';
import { repositoryRoot } from '../support/run-cli.ts';
import type { CaseSpec } from './case.ts';
import { CASES, CORE_CASES } from './catalogue.ts';
import { diagnosisPage } from './confusion.ts';
import { gradeRun } from './expectation.ts';
import { NOT_YET } from './not-yet.ts';
import { missingPackages } from './peers.ts';
import { type Recording, recordingOf, writtenRecording } from './recording.ts';
import { Stage } from './stage.ts';

const RECORDINGS = join(repositoryRoot, 'test', 'cases', 'recordings');

/** Times that a case is played when this machine was too busy for the program itself: that is no answer. */
const PLAYS_MAX = 3;
const TOO_BUSY = /said nothing for [\d.]+ s|stood still for|its own loop was late/;
/** Cases wait for most of their time, so that several at a time do not disturb each other. */
const JOBS = 4;
/** The others are played in so many shares, one a day. */
const SHARES = 6;
const DAY_MS = 86_400_000;

const onStage = new Set<Stage>();
let isStopped = false;

/** Ctrl-C leaves nothing behind either. */
function stopPlaying(): void {
  if (isStopped) return;
  isStopped = true;
  const removing = [...onStage].map((stage) => stage.remove());
  void Promise.allSettled(removing).then((results) => {
    for (const one of results) if (one.status === 'rejected') console.error(String(one.reason));
    process.exit(1);
  });
}

/** Plays one case; everything that it made is gone afterwards. */
async function playOnce(spec: CaseSpec): Promise<Recording> {
  const stage = new Stage();
  onStage.add(stage);
  try {
    return recordingOf(spec, await spec.play(stage), `Linux ${/^[\d.]+/.exec(release())?.[0] ?? ''}`);
  } finally {
    onStage.delete(stage);
    await stage.remove();
  }
}

/** A false name or a pass of what was not held is an answer, however busy the machine is. */
function isTooBusy(spec: CaseSpec, recording: Recording): boolean {
  if (TOO_BUSY.test(recording.text)) return true;
  const { party, offences } = gradeRun(recording, spec.expected);
  const limits = recording.report?.generator.limits ?? [];
  return offences.length > 0 && party !== 'wrong' && limits.length > 0;
}

async function play(spec: CaseSpec): Promise<Recording> {
  for (let plays = 1; ; plays++) {
    const recording = await playOnce(spec);
    if (plays === PLAYS_MAX || !isTooBusy(spec, recording)) return recording;
    console.log(`${spec.name}: played again, because the program itself had no core`);
  }
}

function save(spec: CaseSpec, recording: Recording): void {
  mkdirSync(RECORDINGS, { recursive: true });
  writeFileSync(join(RECORDINGS, `${spec.name}.json`), writtenRecording(recording));
}

/** How a case came out: what named no party falsely may come out otherwise when nothing else runs beside it. */
type Outcome = 'fine' | 'differs' | 'wrong';

/** One line for a person, and whether the suite may pass with it. */
function judge(spec: CaseSpec, recording: Recording): { line: string; outcome: Outcome } {
  const { today, exitCode, report } = recording;
  const grade = gradeRun(recording, spec.expected);
  const rules = report === null ? 'no report' : today.rules.join(', ') || 'nothing';
  const said = `exit ${exitCode}, ${today.whoRanOut ?? 'nothing ran out'} (${rules})`;
  const lacking = NOT_YET.get(spec.name);
  if (grade.offences.length === 0) {
    const isFine = lacking === undefined;
    const line = `${spec.name}: right: ${said}${isFine ? '' : ': take it from NOT_YET'}`;
    return { line, outcome: isFine ? 'fine' : 'wrong' };
  }
  if (lacking !== undefined) return { line: `${spec.name}: not yet: ${said}: ${lacking}`, outcome: 'fine' };
  const line = `${spec.name}: WRONG: ${said}\n    ${grade.offences.join('\n    ')}`;
  return { line, outcome: grade.party === 'wrong' ? 'wrong' : 'differs' };
}

function recorded(spec: CaseSpec): readonly [CaseSpec, Recording] {
  const text = readFileSync(join(RECORDINGS, `${spec.name}.json`), 'utf8');
  return [spec, JSON.parse(text) as Recording];
}

/** Plays a case and says how it came out. */
async function outcomeOf(spec: CaseSpec, isRecorded: boolean): Promise<Outcome> {
  const missing = missingPackages(spec.needs ?? []);
  if (missing.length > 0) {
    console.log(`${spec.name}: NOT PLAYED: apt-get install ${missing.join(' ')}`);
    return 'wrong';
  }
  try {
    const recording = await play(spec);
    if (isRecorded) save(spec, recording);
    const { line, outcome } = judge(spec, recording);
    console.log(line);
    return outcome;
  } catch (error) {
    if (!isStopped) console.log(`${spec.name}: BROKEN: ${(error as Error).stack ?? String(error)}`);
    return 'differs';
  }
}

/** Without a name: what each commit must show, and one share of the others. */
function chosen(filters: readonly string[], share: number): readonly CaseSpec[] {
  if (filters.includes('all')) return CASES;
  if (filters.length === 0)
    return CASES.filter(({ name }, at) => CORE_CASES.has(name) || at % SHARES === share);
  return CASES.filter(({ name }) =>
    filters.some((one) => (one.startsWith('=') ? name === one.slice(1) : name.includes(one))),
  );
}

function numberOf(args: readonly string[], name: string, otherwise: number): number {
  const given = args.find((arg) => arg.startsWith(`--${name}=`));
  return given === undefined ? otherwise : Number(given.slice(name.length + 3));
}

async function main(args: readonly string[]): Promise<number> {
  const why = whyNoNetwork();
  if (why !== null) {
    console.error(`no case can be played: ${why}`);
    return 1;
  }
  const filters = args.filter((arg) => !arg.startsWith('--'));
  const cases = chosen(filters, numberOf(args, 'share', Math.floor(Date.now() / DAY_MS) % SHARES));
  if (args.includes('--list')) {
    for (const { name, fault } of cases) console.log(`${name}: ${fault}`);
    return 0;
  }
  if (args.includes('--page')) {
    writeFileSync(join(repositoryRoot, 'docs', 'DIAGNOSIS.md'), diagnosisPage(CASES.map(recorded)));
    return 0;
  }
  const failures: string[] = [];
  const again: CaseSpec[] = [];
  const left = [...cases];
  const isRecorded = args.includes('--record');
  const playAll = async (): Promise<void> => {
    for (let spec = left.shift(); spec !== undefined && !isStopped; spec = left.shift()) {
      const outcome = await outcomeOf(spec, isRecorded);
      if (outcome === 'differs') again.push(spec);
      if (outcome === 'wrong') failures.push(spec.name);
    }
  };
  await Promise.all(Array.from({ length: numberOf(args, 'jobs', JOBS) }, playAll));
  for (const spec of again) {
    if (isStopped) break;
    console.log(`${spec.name}: once more, alone`);
    if ((await outcomeOf(spec, isRecorded)) !== 'fine') failures.push(spec.name);
  }
  console.log(
    `\ncases: ${cases.length - failures.length} as expected, ${failures.length} not${failures.length > 0 ? `: ${failures.join(', ')}` : ''}`,
  );
  return failures.length === 0 && cases.length > 0 ? 0 : 1;
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stopPlaying);
process.exitCode = await main(process.argv.slice(2));
