#!/usr/bin/env node
/*
 * Owns the first line that any Node reads, however old: what the program cannot start on is told in one line and with a
 * command, never as a stack. Must never use syntax or a module name that Node 14 does not know.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Exit code 3: refused before the start (docs/MANUAL.md). */
const REFUSED = 3;

const folder = fileURLToPath(new URL('..', import.meta.url)).replace(/(.)\/$/, '$1');

/** These open no connection and ask no kernel: a manifest or a token is made on any machine. */
const FOR_ANY_SYSTEM = ['completion', 'k8s', 'token', '--help', '-h', '--version'];

function refuse(message, hint) {
  process.stderr.write(`c100k-bench: ${message}\n  hint: ${hint}\n`);
  process.exitCode = REFUSED;
}

/** `20.19.0` of `>=20.19.0` in package.json. */
function oldestNode() {
  const manifest = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'));
  return manifest.engines.node.replace(/^>=/, '');
}

function isBelow(version, least) {
  const [have, need] = [version, least].map((text) => text.replace(/^v/, '').split('.').map(Number));
  const at = need.findIndex((number, index) => have[index] !== number);
  return at >= 0 && have[at] < need[at];
}

/** What a shell takes as one word. */
function word(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`;
}

function start() {
  const least = oldestNode();
  if (isBelow(process.version, least)) {
    refuse(
      `needs Node ${least} or later, and this is ${process.version}`,
      `npx node@22 ${word(process.argv[1])} --help`,
    );
    return;
  }
  if (process.platform !== 'linux' && !FOR_ANY_SYSTEM.includes(process.argv[2])) {
    refuse(
      `needs Linux, and this is ${process.platform}: agents and holders use what only its kernel has`,
      'docker run --rm -it node:22 npx -y c100k-bench --help',
    );
    return;
  }
  if (!existsSync(`${folder}/dist/main.js`)) {
    refuse(`is not built yet: ${folder} has no dist/`, `cd ${word(folder)} && npm ci && npm run build`);
    return;
  }
  import('../dist/main.js')
    .then(({ main }) => main(process.argv))
    .then((code) => {
      process.exitCode = code;
    });
}

start();
