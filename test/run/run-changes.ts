/** Owns the check that a step of the reducer says what it changed. Must never look at commands. */
import assert from 'node:assert/strict';
import type { RunChange } from '../../src/run/run-event.ts';
import type { RunState } from '../../src/run/run-transition.ts';

/** Whatever is different between two states has been said, and nothing else. */
export function assertChangesSaid(before: RunState, after: RunState, changes: readonly RunChange[]): void {
  const quotaOf = (state: RunState, id: string): number => state.agents.get(id)?.quota ?? 0;
  const isLost = (state: RunState, id: string): boolean => state.agents.get(id)?.stage === 'lost';
  const said = <Type extends RunChange['type']>(type: Type) =>
    changes.filter((change): change is Extract<RunChange, { type: Type }> => change.type === type);
  const ids = new Set([...before.agents.keys(), ...after.agents.keys()]);
  for (const id of ids) {
    const quotas = said('quota-changed').filter(({ agent }) => agent === id);
    const [from, to] = [quotaOf(before, id), quotaOf(after, id)];
    assert.deepEqual(
      quotas.map((each) => [each.from, each.to]),
      from === to ? [] : [[from, to]],
    );
    const lost = said('agent-lost').filter(({ agent }) => agent === id);
    assert.equal(lost.length, isLost(after, id) && !isLost(before, id) ? 1 : 0);
    const came = said('agent-joined').filter(({ agent }) => agent === id);
    assert.equal(came.length, after.agents.has(id) && !before.agents.has(id) ? 1 : 0);
    const isGone = before.agents.has(id) && !after.agents.has(id);
    if (isGone) assert(said('agent-turned-away').some(({ agent }) => agent === id));
  }
  const phases = said('phase-changed');
  assert.equal(phases.at(-1)?.to ?? before.phase, after.phase);
  assert.equal(phases[0]?.from ?? before.phase, before.phase);
  let established = 0;
  for (const { stats } of after.agents.values()) established += stats.established;
  assert.equal(after.established, established, 'the sum that is kept is the sum of the records');
}
