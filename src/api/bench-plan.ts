/**
 * Owns the plan of a run: the preflight that an agent would do, without opening anything. The command line and the library
 * both go this way. Must never judge: the findings come from the same code that an agent runs.
 */
import { formatEndpoint } from '../base/endpoint.ts';
import { ErrorCode, ExitCode, usageError } from '../base/errors.ts';
import { portCount } from '../base/tuple-space.ts';
import { ownPackage } from '../host/own-package.ts';
import { type PathPlan, planPath } from '../path/path-plan.ts';
import { PLAN_SCHEMA_VERSION, type Plan } from '../report/plan-text.ts';
import type { RunSpec } from '../run/run-spec.ts';
import { selfFindings } from '../serve/serve.ts';
import { prepareHost } from '../sources/preparation.ts';
import { type FlagValues, flagValue, flagValues, shownUrl } from './flags/flags.ts';
import {
  type ResolvedTargets,
  type RunRequest,
  readRunRequest,
  resolveTargets,
  specOf,
} from './run-request.ts';

/** What a plan for `--target self` assumes; a real run takes a free port. */
const SELF_ENDPOINT = { address: '127.0.0.1', port: 8000, family: 4 } as const;

/** What further flags say about the hops of `--via`. */
const VIA_DETAILS = ['via-ports', 'via-source', 'via-server'] as const;

/** What is to be planned, checked. */
interface PlanJob {
  readonly request: RunRequest;
  /** the hops on the way; null: none were named */
  readonly pathOf: ((spec: RunSpec) => PathPlan) | null;
}

/**
 * Reads and checks what is to be planned.
 * @throws BenchError exit 2 for what cannot be
 */
export function readPlanJob(values: FlagValues): PlanJob {
  return { request: readRunRequest(values), pathOf: readPath(values) };
}

function readPath(values: FlagValues): PlanJob['pathOf'] {
  const hops = flagValues(values, 'via').flat();
  const ports = flagValue(values, 'via-ports');
  const firstAddress = flagValue(values, 'via-source');
  const server = flagValue(values, 'via-server');
  if (hops.length === 0) {
    const lone = VIA_DETAILS.find((name) => values.isGiven(name));
    if (lone === undefined) return null;
    throw usageError(
      ErrorCode.usage,
      `${values.origin(lone)} needs --via`,
      'add --via with the hops, such as: --via masquerade:1',
    );
  }
  return ({ connections, endpoints }) =>
    planPath({ connections, endpoints: endpoints.length, hops, ports, firstAddress, server });
}

/**
 * Plans; opens nothing.
 * @throws BenchError (exit 2) when a name does not resolve
 */
export async function executePlan({ request, pathOf }: PlanJob): Promise<Plan> {
  const { endpoints, lines } = await endpointsOfPlan(request);
  const spec = specOf(request, endpoints);
  const path = pathOf === null ? null : pathOf(spec);
  const prepared = await prepareHost(spec, spec.connections);
  const known = 'plan' in prepared;
  const ofSelf =
    known && request.targets.some((target) => target.self)
      ? selfFindings(spec.connections, prepared.plan.holders, prepared.found.facts)
      : [];
  const findings = known ? [...prepared.plan.findings, ...ofSelf] : prepared;
  const wouldStart = !findings.some((finding) => finding.severity === 'refuse');
  return {
    schemaVersion: PLAN_SCHEMA_VERSION,
    toolVersion: ownPackage().version,
    wouldStart,
    exitCode: exitCodeOf(wouldStart, path),
    path,
    connections: spec.connections,
    target: request.targets.map((target) => shownUrl(target.text)),
    protocol: spec.protocol,
    endpoints: spec.endpoints.map(formatEndpoint),
    sources: known ? prepared.plan.addresses : [],
    ports: known ? portCount(prepared.plan.ports) : 0,
    tuples: known ? prepared.plan.tuples : 0,
    capacity: known ? prepared.plan.capacityMax : 0,
    boundBy: known ? prepared.plan.boundBy : 'none',
    engine: known ? prepared.plan.engine : null,
    holders: known ? prepared.plan.holders : 0,
    findings,
    notes: [...lines, ...(known ? prepared.notes : [])],
  };
}

async function endpointsOfPlan(request: RunRequest): Promise<ResolvedTargets> {
  if (!request.targets.some((target) => target.self)) return await resolveTargets(request.targets);
  return { endpoints: [SELF_ENDPOINT], lines: ['the built-in target is planned at 127.0.0.1:8000'] };
}

/** 3: the run would be refused; 1: it would start, and the path would not let all through. */
function exitCodeOf(wouldStart: boolean, path: PathPlan | null): ExitCode {
  if (!wouldStart) return ExitCode.refused;
  return path === null || path.suffices ? ExitCode.held : ExitCode.notHeld;
}
