/**
 * Owns checking a report against docs/report.schema.json.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { repositoryRoot } from './run-cli.ts';

/** The schema as an object. */
export function reportSchema(): Record<string, unknown> {
  const text = readFileSync(join(repositoryRoot, 'docs', 'report.schema.json'), 'utf8');
  return JSON.parse(text) as Record<string, unknown>;
}

/**
 * What is wrong with a report, one line each; empty when it is as described.
 * @param report what `--json` wrote, parsed
 */
export function schemaErrors(report: unknown): string[] {
  // Formats are words for a reader here: ajv knows none of them without another package.
  const validate = new Ajv2020({
    allErrors: true,
    strict: true,
    validateFormats: false,
    strictTypes: false,
  }).compile(reportSchema());
  if (validate(report)) return [];
  return (validate.errors ?? []).map((error) => `${error.instancePath} ${error.message}`);
}
