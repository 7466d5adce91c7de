/**
 * Owns who ran out: from the facts of a run to what gave out, with the evidence and the next command. Each rule explains
 * connections that no rule before it explained; what none explains is `unknown` with its number. Must never guess.
 */
import { formatCount } from '../base/units.ts';
import type { DiagnosisFacts } from './evidence-shape.ts';
import { GENERATOR_RULES, generatorFirewall, type Rule } from './generator-health.ts';
import { LOSS_RULES, SHAPE_RULES } from './loss-rules.ts';
import { Missing } from './missing.ts';
import { PATH_CONNECT_RULES, PATH_FACT_RULES } from './path-rules.ts';
import type { Diagnosis } from './report.ts';
import { TARGET_CONNECT_RULES, TARGET_FACT_RULES } from './target-rules.ts';

/** The most certain evidence first: what a party says of itself, then what can only have one cause. */
const RULES: readonly Rule[] = [
  ...GENERATOR_RULES,
  ...TARGET_FACT_RULES,
  ...PATH_FACT_RULES,
  generatorFirewall,
  ...PATH_CONNECT_RULES,
  ...SHAPE_RULES,
  ...TARGET_CONNECT_RULES,
  ...LOSS_RULES,
];

function unknownOf(facts: DiagnosisFacts, missing: Missing): Diagnosis {
  return {
    party: 'unknown',
    what: 'unknown',
    count: missing.rest,
    message: `nothing tells who lost ${formatCount(missing.rest)} connections (${missing.words}): target and path look alike from here`,
    next:
      facts.hold.proof === 'kernel-only'
        ? 'let connections prove themselves (echo://, ws://, --expect-banner), or ask the target: --target-stats'
        : 'ask the target: c100k-bench serve --stats-listen there, --target-stats here',
  };
}

/** Two diagnoses of one name are one. */
function joined(list: readonly Diagnosis[]): Diagnosis[] {
  const byName = new Map<string, Diagnosis>();
  for (const one of list) {
    const key = `${one.party} ${one.what}`;
    const before = byName.get(key);
    byName.set(key, before === undefined ? one : { ...before, count: before.count + one.count });
  }
  return [...byName.values()];
}

/**
 * Names what ran out.
 * @param facts of a run that has ended
 * @returns what explains most connections first, of equals the most certain; one of party `unknown` for those that nothing
 *   explains; empty when nothing is missing
 */
export function diagnose(facts: DiagnosisFacts): Diagnosis[] {
  const missing = new Missing(facts);
  const list: Diagnosis[] = [];
  for (const rule of RULES) {
    const claim = rule(facts, missing);
    const diagnosis = claim === null ? null : missing.take(claim);
    if (diagnosis !== null) list.push(diagnosis);
  }
  if (missing.rest > 0) list.push(unknownOf(facts, missing));
  const sorted = joined(list).sort((a, b) => b.count - a.count);
  const [main, ...others] = sorted;
  // What was never tried was given up because of what kept the others from coming.
  const untried = missing.of('unattempted');
  if (main === undefined || untried === 0) return sorted;
  return [{ ...main, count: main.count + untried }, ...others];
}
