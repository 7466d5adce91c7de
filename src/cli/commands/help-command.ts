/** Owns `c100k-bench help`: the text for a word. Must never say what it does not take from the tables or the manual. */
import { readFileSync } from 'node:fs';
import { nearestWord } from '../../api/flags/value-types.ts';
import { BenchError, ErrorCode, ExitCode, usageError } from '../../base/errors.ts';
import { ownPackage } from '../../host/own-package.ts';
import type { CommandContext } from '../command-line.ts';
import { COMMANDS } from '../commands.ts';
import { allHelp, commandHelp, helpWords, shortHelp } from '../help.ts';
import { TOPICS, topicText } from '../help-topic.ts';
import { manPage } from '../man-page.ts';
import { helpColumns, writeResult } from '../output.ts';

/**
 * `c100k-bench help [command|topic|all|man]`: prints it.
 * @returns 0
 * @throws BenchError (exit code 2) for a word that is none, with the nearest
 */
export async function helpCommand({ words }: CommandContext): Promise<ExitCode> {
  await writeResult(helpText(words.topic ?? null, helpColumns()));
  return ExitCode.held;
}

/** @param word null: none was given */
function helpText(word: string | null, width: number): string {
  if (word === null) return shortHelp(width);
  if (word === 'all') return allHelp(width);
  if (word === 'man') return manPage(ownPackage().version, readManual());
  const command = COMMANDS.find((one) => one.command === word)?.command;
  // A command's own name wins over a topic's.
  if (command !== undefined) return commandHelp(command, width);
  const topic = TOPICS.find(({ name }) => name === word);
  if (topic !== undefined) return topicText(topic, readManual(), width);
  const known = helpWords();
  const near = nearestWord(word, known);
  throw usageError(
    ErrorCode.usage,
    `there is no help on ${word}`,
    near === null ? `there is help on ${known.join(', ')}` : `did you mean c100k-bench help ${near}?`,
  );
}

function readManual(): string {
  const { manualPath } = ownPackage();
  try {
    return readFileSync(manualPath, 'utf8');
  } catch (error) {
    throw new BenchError(
      ErrorCode.usage,
      ExitCode.usage,
      `the manual is not there: ${(error as Error).message}`,
      'c100k-bench help all shows every flag without it',
      error,
    );
  }
}
