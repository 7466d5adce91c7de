/**
 * Owns the text of manifests: YAML documents that `kubectl apply -f -` reads. The only file that imports yaml.
 * Must never decide what is in a manifest (place/kubernetes.ts).
 */
import { Document, isScalar, visit } from 'yaml';
import type { Manifest } from './kubernetes.ts';

/**
 * One YAML document per manifest.
 * @param heading lines of a comment above the first one
 * @returns text that ends in a line break
 */
export function manifestYaml(manifests: readonly Manifest[], heading: readonly string[]): string {
  const documents = manifests.map(documentText);
  return `${heading.map((line) => `# ${line}`.trimEnd()).join('\n')}\n---\n${documents.join('---\n')}`;
}

function documentText(manifest: Manifest): string {
  // kubectl reads YAML 1.1, where `on`, `1_000` and `12:30` are no strings: they are quoted then.
  const document = new Document(manifest, { aliasDuplicateObjects: false, version: '1.1' });
  visit(document, {
    Pair: (_key, { key, value }) => {
      // A mode is for people, but 0400 is octal in YAML 1.1 and four hundred in 1.2; decimal is the same in both.
      if (isScalar(key) && isScalar(value) && key.value === 'defaultMode') {
        value.comment = ` 0${Number(value.value).toString(8)}`;
      }
    },
  });
  return document.toString({ lineWidth: 0 });
}
