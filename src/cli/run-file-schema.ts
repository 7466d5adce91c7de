/**
 * Owns the JSON Schema of run files, made from the table of flags: docs/run-file.schema.json is what it says, for editors.
 * Must never take what the reader (api/run-file.ts) refuses, but for texts that only their flag can judge.
 */
import type { Bounds, Flag } from '../api/flags/flag.ts';
import { flagsOf } from '../api/flags/flags.ts';
import { RATE_PER_SEC_MAX } from '../base/units.ts';
import { flagText } from './help.ts';

type Schema = Readonly<Record<string, unknown>>;

/** As units.ts reads them; an upper case suffix is taken too. */
const NUMBER = String.raw`\d+(_\d+)*(\.\d+)?`;
const PATTERNS = {
  count: `^${NUMBER}[kKmM]?$`,
  duration: `^(${NUMBER}|(${NUMBER}d)?(${NUMBER}h)?(${NUMBER}m)?(${NUMBER}s)?(${NUMBER}ms)?)$`,
  rate: `^${NUMBER}[kKmM]?(/[smh])?$`,
} as const;

function numberSchema(bounds: Bounds, word: string | null): Schema {
  const number = { type: 'string', minLength: 1, pattern: PATTERNS[bounds.kind] };
  const text = word === null ? number : { anyOf: [number, { const: word }] };
  switch (bounds.kind) {
    case 'count':
      return { anyOf: [{ type: 'integer', minimum: bounds.min, maximum: bounds.max }, text] };
    case 'duration':
      // A plain number is seconds.
      return {
        anyOf: [{ type: 'number', minimum: bounds.minMs / 1_000, maximum: bounds.maxMs / 1_000 }, text],
      };
    case 'rate':
      return { anyOf: [{ type: 'number', exclusiveMinimum: 0, maximum: RATE_PER_SEC_MAX }, text] };
  }
}

function valueSchema(flag: Flag): Schema {
  if (flag.choices !== undefined) {
    // YAML reads a word of digits as a number.
    return { enum: flag.choices.flatMap((word) => (/^\d+$/.test(word) ? [word, Number(word)] : [word])) };
  }
  if (flag.bounds === undefined) return { type: ['string', 'number'] };
  // A word that stands for the least: `forever` for a hold without an end.
  const least = flag.bounds.kind === 'duration' ? flag.write(flag.bounds.minMs) : '1';
  const isWord = !new RegExp(PATTERNS[flag.bounds.kind]).test(least);
  return numberSchema(flag.bounds, isWord ? least : null);
}

function flagSchema(flag: Flag): Schema {
  const description = flagText(flag);
  if (flag.kind === 'switch') return { description, type: 'boolean' };
  const value = valueSchema(flag);
  if (flag.kind === 'list')
    return { description, anyOf: [value, { type: 'array', minItems: 1, items: value }] };
  if (flag.bare !== null) return { description, anyOf: [value, { const: true }] };
  return { description, ...value };
}

/** The schema as JSON, ending in a line break; of draft 7, which editors know. */
export function runFileSchemaJson(): string {
  const schema = {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'c100k-bench run file',
    description:
      'What c100k-bench run FILE reads. Made by c100k-bench init --schema from the table of flags.',
    type: 'object',
    additionalProperties: false,
    properties: Object.fromEntries(flagsOf('run').map((flag) => [flag.name, flagSchema(flag)])),
  };
  return `${JSON.stringify(schema, null, 2)}\n`;
}
