/**
 * Owns what one host offers for a run: sources, capacity, what bounds it, holders, and what preflight found.
 * Must never gather a fact: `planHost` is a pure function of facts.
 */

import type { Finding } from '../base/errors.ts';
import type { PortRange } from '../base/tuple-space.ts';
import { formatCount } from '../base/units.ts';
import type { EngineChoice } from '../run/run-spec.ts';
import { type BoundName, type PlanBasis, type PlanRequest, planBasis } from './capacity.ts';
import { HOLDERS_MAX, holdersFor, type Shape } from './cost.ts';
import { preflight } from './preflight.ts';

export interface HostPlan {
  readonly addresses: readonly string[];
  readonly ports: readonly PortRange[];
  /** possible connections: ports x (source address, endpoint) pairs of one family */
  readonly tuples: number;
  /** the most connections that this host can hold */
  readonly capacityMax: number;
  /** the resource that sets it */
  readonly boundBy: BoundName;
  readonly engine: EngineChoice;
  /** holder processes for the wanted connections, or for the capacity when that is less */
  readonly holders: number;
  /** what one holder can have; `holdersFor` takes it again once the quota is known */
  readonly shape: Shape;
  /** one per resource; some finding is `refuse` exactly when `capacityMax` is less than wanted */
  readonly findings: readonly Finding[];
  /** one line each, for a person */
  readonly notes: readonly string[];
}

/**
 * What this host can hold, what bounds it, and what preflight finds.
 * @param request the run, the connections wanted from this host, its facts and its source addresses
 */
export function planHost(request: PlanRequest): HostPlan {
  const basis = planBasis(request);
  const boundBy = smallestOf(basis);
  const capacityMax = basis.bounds[boundBy];
  return {
    addresses: request.addresses,
    ports: basis.choice.ports,
    tuples: basis.tuples,
    capacityMax,
    boundBy,
    engine: basis.engine,
    holders: holdersFor(Math.min(request.wanted, capacityMax), basis.shape),
    shape: basis.shape,
    findings: preflight(basis),
    notes: notesOf(basis),
  };
}

function smallestOf({ bounds }: PlanBasis): BoundName {
  let smallest: BoundName = 'tuples';
  for (const name of Object.keys(bounds) as BoundName[]) {
    if (bounds[name] < bounds[smallest]) smallest = name;
  }
  return smallest;
}

function notesOf({ spec }: PlanBasis): string[] {
  if (spec.holders === null || spec.holders <= HOLDERS_MAX) return [];
  return [`--holders ${spec.holders} is taken as ${formatCount(HOLDERS_MAX)}, the most on one host`];
}
