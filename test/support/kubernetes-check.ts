/**
 * Owns the judgement of Kubernetes objects by the models of the package kubernetes-models, which are made from the
 * API's own description. They say what is wrong or missing but pass over a field that does not exist, so a field that
 * the model never looks at counts as unknown here. Must never know what c100k-bench prints.
 */
import { Job } from 'kubernetes-models/batch/v1/Job';
import { Secret } from 'kubernetes-models/v1/Secret';
import { Service } from 'kubernetes-models/v1/Service';

interface Model {
  validate(): void;
}

const MODELS: Readonly<Record<string, new (data: never) => Model>> = {
  'batch/v1 Job': Job,
  'v1 Secret': Secret,
  'v1 Service': Service,
};

/** Wraps a value so that each field that somebody reads is remembered by its path. */
function watched<Value extends object>(value: Value, path: string, seen: Set<string>): Value {
  return new Proxy(value, {
    get: (target, key, receiver) => {
      const inner: unknown = Reflect.get(target, key, receiver);
      if (typeof key === 'symbol' || !Object.hasOwn(target, key)) return inner;
      const innerPath = `${path}/${key}`;
      seen.add(innerPath);
      return typeof inner === 'object' && inner !== null ? watched(inner, innerPath, seen) : inner;
    },
  });
}

function pathsOf(value: unknown, path: string): string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => [
    `${path}/${key}`,
    ...pathsOf(inner, `${path}/${key}`),
  ]);
}

/**
 * What is wrong with one object; empty when an API server would take it.
 * @param manifest as parsed from YAML
 */
export function kubernetesProblems(manifest: Readonly<Record<string, unknown>>): string[] {
  const kind = `${manifest.apiVersion} ${manifest.kind}`;
  const ModelOfKind = MODELS[kind];
  if (ModelOfKind === undefined) return [`no model of ${kind}`];
  const seen = new Set<string>();
  const model = watched(new ModelOfKind(manifest as never), '', seen);
  try {
    model.validate();
  } catch (error) {
    return [(error as Error).message];
  }
  return pathsOf(manifest, '')
    .filter((path) => !seen.has(path))
    .map((path) => `${path} is not known`);
}
