/*
 * Owns `npm install` from git and `npm ci` in a clone: both run the script `prepare`, which gives them a dist/.
 * Must never fail where there is nothing to build with: a packed tarball has no sources, `--omit=dev` not all packages.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('..', import.meta.url));

/** The compiler alone is not enough: a package may bring it where `--omit=dev` left out the types. */
function canBuild() {
  const { devDependencies } = JSON.parse(readFileSync(`${folder}package.json`, 'utf8'));
  const needed = Object.keys(devDependencies).filter(
    (name) => name === 'typescript' || name.startsWith('@types/'),
  );
  return (
    existsSync(`${folder}src/main.ts`) && needed.every((name) => existsSync(`${folder}node_modules/${name}`))
  );
}

if (canBuild()) {
  const compiler = `${folder}node_modules/typescript/bin/tsc`;
  const { status } = spawnSync(process.execPath, [compiler, '-p', 'tsconfig.json'], {
    cwd: folder,
    stdio: 'inherit',
  });
  process.exitCode = status === null ? 1 : status;
}
