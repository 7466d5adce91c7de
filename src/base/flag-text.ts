/**
 * Owns how a flag and its value are written so that they can be typed: `--conns 130k` on a command line,
 * `C100K_CONNS=130k` in the environment. Must never know which flags there are (cli/).
 */

/**
 * A flag with its value, as a hint says it.
 * @param flag how the value was given: `--conns`, or the environment variable `C100K_CONNS`
 * @param value what to type
 */
export function flagWith(flag: string, value: string): string {
  return flag.startsWith('-') ? `${flag} ${value}` : `${flag}=${value}`;
}

/**
 * How to go without a flag.
 * @param flag how the value was given: `--rate`, or the environment variable `C100K_RATE`
 */
export function flagAway(flag: string): string {
  return flag.startsWith('-') ? `leave ${flag} out` : `unset ${flag}`;
}
