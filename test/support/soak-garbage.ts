/**
 * Owns that a process of the soak collects its garbage every few seconds: then its resident size is what it keeps, and not
 * what V8 finds worth leaving. Preloaded with `--import`.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const COLLECT_EVERY_MS = 2_000;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
setInterval(collect, COLLECT_EVERY_MS).unref();
