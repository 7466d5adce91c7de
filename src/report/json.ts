/**
 * Owns the report and the plan as JSON text; docs/report.schema.json describes the report.
 * Must never add, drop or rename a field.
 */
import { cleanJson } from '../base/clean-text.ts';
import type { RunReport } from '../judge/report.ts';
import type { Plan } from './plan-text.ts';

/**
 * The report as JSON, ending in a line break.
 * @param report the final numbers
 */
export function reportJson(report: RunReport): string {
  return `${cleanJson(JSON.stringify(report, null, 2))}\n`;
}

/**
 * The plan as JSON, ending in a line break.
 * @param plan what a run would take
 */
export function planJson(plan: Plan): string {
  return `${cleanJson(JSON.stringify(plan, null, 2))}\n`;
}
