/**
 * Owns `c100k-bench plan`: the preflight of a run, printed. Opens nothing.
 * Must never judge: the findings come from the same code that an agent runs.
 */

import type { FlagValues } from '../../api/flags/flag-values.ts';
import {
  type ResolvedTargets,
  type RunRequest,
  readRunRequest,
  resolveTargets,
  specOf,
} from '../../api/run-request.ts';
import { parseCidr } from '../../base/address.ts';
import { formatEndpoint } from '../../base/endpoint.ts';
import { ExitCode } from '../../base/errors.ts';
import { parsePortRanges, portCount } from '../../base/tuple-space.ts';
import { type PathPlan, parseHop, planPath } from '../../path/path-plan.ts';
import { planJson } from '../../report/json.ts';
import { PLAN_SCHEMA_VERSION, type Plan, renderPlan } from '../../report/plan-text.ts';
import type { RunSpec } from '../../run/run-spec.ts';
import { selfFindings } from '../../serve/self-target.ts';
import { prepareHost } from '../../sources/preparation.ts';
import type { CommandContext } from '../command-context.ts';
import { echoCommand, paintFor } from '../output.ts';
import { publish, resultPlaces } from '../result.ts';

/** What a plan for `--target self` assumes; a real run takes a free port. */
const SELF_ENDPOINT = { address: '127.0.0.1', port: 8000, family: 4 } as const;

/**
 * Plans and prints.
 * @returns 0 when a run would start, 3 when it would be refused, 1 when the hops of --via would not let all through
 * @throws BenchError on wrong flags, a name that does not resolve, a report that cannot be written
 */
export async function planCommand({ values, toolVersion }: CommandContext): Promise<ExitCode> {
  const request = readRunRequest(values);
  const places = resultPlaces(values);
  if (!places.quiet) echoCommand('plan', values);
  const { endpoints, lines } = await endpointsOfPlan(request);
  const spec = specOf(request, endpoints);
  const plan = await makePlan(request, spec, lines, toolVersion, readPath(values, spec));
  const paint = paintFor(places.textStream);
  await publish(places, { text: renderPlan(plan, paint), json: planJson(plan) });
  return plan.exitCode as ExitCode;
}

/** The hops of `--via`; null without one. */
function readPath(values: FlagValues, spec: RunSpec): PathPlan | null {
  const via = values.list('via');
  if (via.length === 0) return null;
  const ports = values.one('via-ports');
  const firstAddress = values.one('via-source') ?? '';
  parseCidr(firstAddress);
  return planPath({
    connections: spec.connections,
    endpoints: spec.endpoints.length,
    hops: via.flatMap((text) => text.split(',')).map(parseHop),
    ports: ports === null ? null : parsePortRanges(ports),
    firstAddress,
    server: values.one('via-server') ?? '',
  });
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
  path: PathPlan | null,
): Promise<Plan> {
  const prepared = await prepareHost(spec, spec.connections);
  const known = 'plan' in prepared;
  const ofSelf =
    known && request.targets.some((target) => target.self)
      ? selfFindings(spec.connections, prepared.plan.holders, prepared.sourcing.facts)
      : [];
  const findings = known ? [...prepared.plan.findings, ...ofSelf] : prepared;
  const wouldStart = !findings.some((finding) => finding.severity === 'refuse');
  return {
    schemaVersion: PLAN_SCHEMA_VERSION,
    toolVersion,
    wouldStart,
    exitCode: exitCodeOf(wouldStart, path),
    path,
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

/** 3: the run would be refused; 1: it would start, and the path would not let all through. */
function exitCodeOf(wouldStart: boolean, path: PathPlan | null): ExitCode {
  if (!wouldStart) return ExitCode.refused;
  return path === null || path.suffices ? ExitCode.held : ExitCode.notHeld;
}
