/**
 * Owns `c100k-bench plan`: the preflight of a run, printed. Opens nothing.
 * Must never judge: the findings come from the same code that an agent runs.
 */
import { prepareHost } from '../agent/preparation.ts';
import { formatEndpoint } from '../core/endpoint.ts';
import { ExitCode } from '../core/errors.ts';
import type { RunSpec } from '../core/run-spec.ts';
import { portCount } from '../core/tuple-space.ts';
import { planJson } from '../report/json.ts';
import { PLAN_SCHEMA_VERSION, type Plan, renderPlan } from '../report/plan.ts';
import type { CommandContext } from './cli.ts';
import { paintFor, tell } from './output.ts';
import { publish, resultPlaces } from './result.ts';
import {
  effectiveOptions,
  type ResolvedTargets,
  type RunRequest,
  readRunRequest,
  resolveTargets,
  specOf,
} from './run-options.ts';

/** What a plan for `--target self` assumes; a real run takes a free port. */
const SELF_ENDPOINT = { address: '127.0.0.1', port: 8000, family: 4 } as const;

/**
 * Plans and prints.
 * @returns 0 when a run would start, 3 when it would be refused
 * @throws BenchError on wrong flags, a name that does not resolve, a report that cannot be written
 */
export async function planCommand({ values, toolVersion }: CommandContext): Promise<ExitCode> {
  const request = readRunRequest(values);
  const places = resultPlaces(values);
  if (!places.quiet) tell(effectiveOptions(request));
  const { endpoints, lines } = await endpointsOfPlan(request);
  const plan = await makePlan(request, specOf(request, endpoints), lines, toolVersion);
  const paint = paintFor(places.textStream);
  await publish(places, { text: renderPlan(plan, paint), json: planJson(plan) });
  return plan.wouldStart ? ExitCode.held : ExitCode.refused;
}

async function endpointsOfPlan(request: RunRequest): Promise<ResolvedTargets> {
  if (!request.targets.some((target) => target.self)) return await resolveTargets(request.targets);
  return { endpoints: [SELF_ENDPOINT], lines: ['the built-in target is planned at 127.0.0.1:8000'] };
}

async function makePlan(
  request: RunRequest,
  spec: RunSpec,
  lines: readonly string[],
  toolVersion: string,
): Promise<Plan> {
  const prepared = await prepareHost(spec, spec.connections);
  const known = 'plan' in prepared;
  const findings = known ? prepared.plan.findings : prepared;
  const wouldStart = !findings.some((finding) => finding.severity === 'refuse');
  return {
    schemaVersion: PLAN_SCHEMA_VERSION,
    toolVersion,
    wouldStart,
    exitCode: wouldStart ? ExitCode.held : ExitCode.refused,
    connections: spec.connections,
    target: request.targets.map((target) => target.text),
    protocol: spec.protocol,
    endpoints: spec.endpoints.map(formatEndpoint),
    sources: known ? prepared.plan.addresses : [],
    ports: known ? portCount(prepared.plan.ports) : 0,
    tuples: known ? prepared.plan.tuples : 0,
    capacity: known ? prepared.plan.capacityMax : 0,
    boundBy: known ? prepared.plan.boundBy : 'none',
    holders: known ? prepared.plan.holders : 0,
    findings,
    notes: [...lines, ...(known ? prepared.notes : [])],
  };
}
