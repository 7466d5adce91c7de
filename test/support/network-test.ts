/** Owns how a test of a whole run in namespaces begins, and how it looks at the far side while the run holds. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { BenchRun } from './bench-run.ts';
import { whyNoNetwork } from './network.ts';
import type { ServerView } from './source-lab.ts';

const TIMEOUT_MS = 240_000;

const skip = whyNoNetwork();

/** A test that needs namespaces: without them it is skipped, visibly. */
export function networkTest(name: string, body: (t: TestContext) => Promise<void>): void {
  test(name, { timeout: TIMEOUT_MS }, async (t) => {
    if (skip === null) await body(t);
    else t.skip(skip);
  });
}

/** Waits for the hold, looks at the far side, and waits for the end. */
export async function held(run: BenchRun, look: () => Promise<ServerView>): Promise<ServerView> {
  await run.saw(/ holding /);
  const seen = await look();
  const { code, stdout, stderr } = await run.result;
  assert.equal(code, 0, `${stdout}${stderr}`);
  return seen;
}
