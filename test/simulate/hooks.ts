/**
 * Owns which modules of the program are replaced in a simulation, and the lines that are changed in it to plant a fault: as
 * a module hook, so that the program has no flag for any of it. Runs on Node's own thread for hooks.
 */
import type { LoadHook, ResolveHook } from 'node:module';

/** A line of the program that is another one in this simulation. */
export interface Plant {
  /** a module below src, without .ts */
  readonly module: string;
  readonly from: string;
  readonly to: string;
}

let plants: readonly Plant[] = [];

/** Called by Node with the `data` of `register`. */
export function initialize(data: { readonly plants: readonly Plant[] }): void {
  plants = data.plants;
}

const SRC = new URL('../../src/', import.meta.url).href;
const DOUBLES = new URL('./doubles/', import.meta.url).href;

/** What a module of src imports, and the double that it gets. Keys that are paths are below src. */
const REPLACED: ReadonlyMap<string, string> = new Map([
  ['node:https', 'https'],
  ['node:tls', 'tls'],
  ['node:os', 'os'],
  ['ws', 'ws'],
  ['control/gate', 'gate'],
  ['time/timer', 'timer'],
  ['engine/parent-bond', 'holder-process'],
  ['agent/kernel-watch', 'kernel-watch'],
  ['agent/holder-pool node:child_process', 'holder-process'],
  ['coordinator/local-agent node:child_process', 'local-agent-process'],
  ['sources/discover host/kernel-evidence', 'host'],
  ['host/command', 'host'],
  ['host/kernel-count', 'host'],
  ['host/proc-file', 'host'],
  ['host/host-facts', 'host'],
  ['agent/aftermath', 'host'],
  ['sources/alias-records', 'host'],
  ['engine/drivers/uring-probe', 'host'],
]);

/** Modules whose imports are replaced: what else imports the same is not part of the simulation. */
const IMPORTERS: ReadonlySet<string> = new Set([
  'control/server',
  'control/client',
  'control/channel',
  'control/intake',
  'agent/agent',
  'agent/agent-quota',
  'agent/agent-run',
  'agent/agent-reporter',
  'agent/kernel-watch',
  'agent/holder-pool',
  'agent/process-pipe',
  'agent/phase-end',
  'agent/open-turns',
  'coordinator/run',
  'coordinator/agent-contact',
  'coordinator/expected-agents',
  'coordinator/local-agent',
  'sources/preparation',
  'sources/discover',
  'sources/source-check',
  'sources/alias-lease',
]);

/** Modules that get a `process` of their own. */
const OWN_PROCESS: ReadonlySet<string> = new Set([
  'agent/agent',
  'agent/process-pipe',
  'coordinator/local-agent',
]);

function moduleOf(url: string | undefined): string | null {
  return url?.startsWith(SRC) === true ? url.slice(SRC.length).replace(/\.js$/, '') : null;
}

/** As Node's documentation of hooks has it. */
export const resolve: ResolveHook = async (specifier, context, nextResolve) => {
  const importer = moduleOf(context.parentURL);
  if (importer === null || !IMPORTERS.has(importer)) return nextResolve(specifier, context);
  const resolved = await nextResolve(specifier, context);
  const imported = moduleOf(resolved.url) ?? specifier;
  const double = REPLACED.get(`${importer} ${imported}`) ?? REPLACED.get(imported);
  return double === undefined ? resolved : { url: `${DOUBLES}${double}.js`, shortCircuit: true };
};

/** As Node's documentation of hooks has it. */
export const load: LoadHook = async (url, context, nextLoad) => {
  const loaded = await nextLoad(url, context);
  const module = moduleOf(url);
  if (module === null || loaded.format !== 'module') return loaded;
  let source = String(loaded.source);
  if (OWN_PROCESS.has(module)) source = `import { process } from '${DOUBLES}process.js';${source}`;
  for (const plant of plants) {
    if (plant.module !== module) continue;
    if (!source.includes(plant.from)) throw new Error(`${module} has no such line: ${plant.from}`);
    source = source.replace(plant.from, plant.to);
  }
  return { ...loaded, source };
};
