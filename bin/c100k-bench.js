#!/usr/bin/env node
/*
 * Owns the first line that any Node reads, however old: what the program cannot start on is said in one line and with a
 * command, never as a stack. Must never use syntax or a module name that Node 14 does not know.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** What a process of ours takes besides its connections; below it not even its own files can be loaded. */
const DESCRIPTORS_LEAST = 96;
/** What the program forks: its parent has looked already. */
const FORKED = ['holder', 'serve-worker'];

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

/** RLIMIT_NOFILE: the hard limit, because Node raises the soft one to it at its start. */
function descriptorLimit() {
  try {
    const text = readFileSync('/proc/self/limits', 'utf8');
    const hard = /^Max open files\s+\S+\s+(\d+)/m.exec(text);
    return hard === null ? Infinity : Number(hard[1]);
  } catch (error) {
    // No descriptor is left for this file itself: Node opens about 20 before it reads the first line.
    return error.code === 'EMFILE' ? 20 : Infinity;
  }
}

/** What a shell takes as one word. */
function word(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`;
}

function start() {
  const descriptors = descriptorLimit();
  if (!FORKED.includes(process.argv[2]) && descriptors < DESCRIPTORS_LEAST) {
    const limit = '1024';
    refuse(
      `needs ${DESCRIPTORS_LEAST} descriptors for itself, before any connection, has ${descriptors} (ulimit -n)`,
      `ulimit -n ${limit}, or where that is refused: sudo prlimit --pid $$ --nofile=${limit}:${limit}`,
    );
    return;
  }
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
