/**
 * Owns `c100k-bench plan`: the preflight of a run, printed. Opens nothing. Must never make a plan (api/bench-plan.ts).
 */
import { executePlan, readPlanJob } from '../../api/bench-plan.ts';
import type { ExitCode } from '../../base/errors.ts';
import { planJson } from '../../report/formats.ts';
import { renderPlan } from '../../report/plan-text.ts';
import type { CommandContext } from '../command-line.ts';
import { echoCommand, paintFor, publish, resultPlaces } from '../output.ts';

/**
 * Plans and prints.
 * @returns 0 when a run would start, 3 when it would be refused, 1 when the hops of --via would not let all through
 * @throws BenchError on wrong flags, a name that does not resolve, a report that cannot be written
 */
export async function planCommand({ values }: CommandContext): Promise<ExitCode> {
  const job = readPlanJob(values);
  const places = resultPlaces(values);
  if (!places.quiet) echoCommand('plan', values);
  const plan = await executePlan(job);
  await publish(places, { text: renderPlan(plan, paintFor(places.textStream)), json: planJson(plan) });
  return plan.exitCode as ExitCode;
}
