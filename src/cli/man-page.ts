/**
 * Owns the manual page c100k-bench(1), made from the tables of commands and of flags, and from the manual's exit codes.
 * Must never know a flag or a command that is not in its table.
 */
import type { CommandName, Flag } from '../api/flags/flag.ts';
import { environmentName, flagsOf } from '../api/flags/flags.ts';
import { wrapText } from '../report/layout.ts';
import { COMMANDS, EXAMPLES } from './commands.ts';
import { flagTerm, flagText, usageLine } from './help.ts';
import { manualSection, tableCells } from './help-topic.ts';

/** Of the form of the page; what it says is of the version beside it. */
const PAGE_DATE = '2026-11-27';

/** Columns of a line of the source: with its escapes, mostly below 80. */
const SOURCE_COLUMNS = 66;

/** Text as troff takes it: a backslash, a dash and a line's first dot or quote have a meaning there. */
function roff(text: string): string {
  const escaped = text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('`', '\\(ga');
  return escaped.replaceAll('~', '\\(ti').replaceAll('^', '\\(ha').replace(/^\./, '\\&.');
}

/** A paragraph, in lines of moderate length as the format wants them. */
function prose(text: string): string[] {
  return wrapText(text, SOURCE_COLUMNS).map(roff);
}

function section(name: string, lines: readonly string[]): string[] {
  return [`.SH ${name}`, ...lines];
}

function tagged(term: string, text: string): string[] {
  return ['.TP', `.B ${roff(term)}`, ...prose(text)];
}

function flagLines(flags: readonly Flag[]): string[] {
  return flags.flatMap((flag) => tagged(flagTerm(flag), `${flagText(flag)}.`));
}

function runFlagLines(): string[] {
  const flags = flagsOf('run');
  const groups = [...new Set(flags.map(({ group }) => group))];
  return groups.flatMap((group) => [
    `.SS ${roff(group.replace(/:$/, ''))}`,
    ...flagLines(flags.filter((flag) => flag.group === group)),
  ]);
}

/** Its own flags, and the names of those that it has in common with a run. */
function commandLines(command: CommandName, describe: string, epilogue: string): string[] {
  const flags = flagsOf(command);
  const isOfRun = (flag: Flag): boolean => flag.commands.includes('run');
  const common = flags.filter(isOfRun).map(({ name }) => `--${name}`);
  const said = [describe, ...epilogue.split('\n').filter((line) => line !== '')];
  return [
    `.SS ${roff(command)}`,
    ...prose(`${said[0]}.`),
    ...said.slice(1).flatMap((line) => ['.PP', ...prose(line)]),
    '.PP',
    `.B ${roff(usageLine(command))}`,
    ...flagLines(flags.filter((flag) => !isOfRun(flag))),
    ...(common.length === 0 ? [] : ['.PP', ...prose(`As a run: ${common.join(', ')}.`)]),
  ];
}

function exampleLines([line, describe]: readonly [string, string], at: number): string[] {
  const command = ['.PP', '.nf', '.RS 4', roff(`c100k-bench ${line}`), '.RE', '.fi'];
  return [...(at === 0 ? [] : ['.PP']), ...prose(describe.replace(/[^?]$/, '$&:')), ...command];
}

/**
 * The page in troff, ending in a line break.
 * @param version of the package
 * @param manual docs/MANUAL.md, for the exit codes
 */
export function manPage(version: string, manual: string): string {
  const run = COMMANDS.find(({ command }) => command === 'run');
  const others = COMMANDS.filter(({ command }) => command !== 'run');
  const exits = manualSection(manual, 'Exit codes')
    .filter((line) => /^\| \d+ \|/.test(line))
    .map(tableCells);
  const examples = COMMANDS.flatMap(({ command }) => EXAMPLES[command] ?? []);
  const conns = flagsOf('run').filter(({ name }) => name === 'conns');
  const lines = [
    '.\\" Made by c100k\\-bench help man from the table of flags: do not edit.',
    `.TH C100K\\-BENCH 1 ${PAGE_DATE} "c100k\\-bench ${roff(version)}" "User Commands"`,
    ...section('NAME', [`c100k\\-bench \\- ${roff((run?.describe ?? '').replace(/^Open/, 'open'))}`]),
    ...section('SYNOPSIS', [
      `.B ${roff(usageLine('run'))}`,
      '.br',
      `.B ${roff('c100k-bench run FILE [flags]')}`,
      ...others.flatMap(({ command }) => ['.br', `.B ${roff(usageLine(command))}`]),
    ]),
    ...section('DESCRIPTION', [
      ...prose(`${run?.describe ?? ''}.`),
      ...(run?.epilogue ?? '').split('\n').flatMap((line) => ['.PP', ...prose(line)]),
    ]),
    ...section('FLAGS OF A RUN', runFlagLines()),
    ...section(
      'COMMANDS',
      others.flatMap(({ command, describe, epilogue }) => commandLines(command, describe, epilogue)),
    ),
    ...section('ENVIRONMENT', [
      ...prose(
        `Each flag may come from the environment: ${conns.map((flag) => `${environmentName(flag)} for --${flag.name}`).join('')}. What is typed wins.`,
      ),
      ...tagged('C100K_TOKEN', 'The token itself, for a run and for an agent.'),
      ...tagged('NO_COLOR, FORCE_COLOR', 'No colours; colours also without a terminal.'),
    ]),
    ...section(
      'EXIT STATUS',
      exits.flatMap(([code = '', meaning = '']) => tagged(code, `${meaning}.`)),
    ),
    ...section('EXAMPLES', examples.flatMap(exampleLines)),
    ...section('SEE ALSO', [
      '.BR ss (8),',
      '.BR ip (8),',
      '.BR tcp (7)',
      '.PP',
      ...prose('The manual: docs/MANUAL.md of the package. c100k-bench help TOPIC shows its sections.'),
    ]),
  ];
  return `${lines.join('\n')}\n`;
}
