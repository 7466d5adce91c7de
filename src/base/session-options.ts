/**
 * Owns what a session of MQTT is asked with beyond its endpoint, the templates in it, and their bounds; the bounds of client
 * certificates and of ALPN. Must never read a
 * file (api/session-request.ts): a password is carried as its text, because agents have no files of the coordinator.
 */

/** What CONNECT and SUBSCRIBE say. */
export interface MqttOptions {
  /** the level of the protocol: 4 is MQTT 3.1.1 */
  readonly level: 4 | 5;
  /** template; two connections with one client id end each other's session */
  readonly clientId: string;
  /** template; null: none is sent */
  readonly user: string | null;
  readonly password: string | null;
  /** seconds, 0 to 65,535; 0: no keep alive */
  readonly keepAliveSec: number;
  /** template of the topic filter that each connection subscribes to; null: none */
  readonly subscribe: string | null;
}

/** What is asked with where nothing else is said. */
export const DEFAULT_MQTT_OPTIONS: MqttOptions = {
  level: 5,
  clientId: 'c100k-{agent}-{conn}',
  user: null,
  password: null,
  keepAliveSec: 60,
  subscribe: null,
};

/** Of a template, in bytes of UTF-8; what is put in for its names fits in what MQTT allows (65,535). */
const TEMPLATE_BYTES_MAX = 1_024;
export const PASSWORD_BYTES_MAX = 16_384;
export const KEEP_ALIVE_SEC_MAX = 65_535;

/** Of a keep alive, how much may pass between two packets of ours: a busy host sends late, and the server counts from what came. */
const KEEP_ALIVE_USED = 0.75;

/** The longest time between two probes that keeps a session alive, milliseconds. @param keepAliveSec above 0 */
export function keepAliveProbeMs(keepAliveSec: number): number {
  return keepAliveSec * KEEP_ALIVE_USED * 1_000;
}

/** What a template may name: the agent as the run calls it, and the number of the connection on that agent, from 0. */
const TEMPLATE_NAMES = ['agent', 'conn'] as const;

/** Whether each connection makes another text of a template. */
export function differsByConnection(template: string): boolean {
  return template.includes('{conn}');
}

/** Why a text is no template that MQTT takes; null: it is one. */
export function templateProblem(text: string): string | null {
  const bytes = new TextEncoder().encode(text).length;
  if (bytes === 0 || bytes > TEMPLATE_BYTES_MAX) return `must have 1 to ${TEMPLATE_BYTES_MAX} bytes`;
  // MQTT 5 section 1.5.4: a server may close the connection for these.
  if (/[\p{Cc}\p{Cs}]/u.test(text)) return 'must have no control characters';
  for (const [, name] of text.matchAll(/\{([a-z]*)\}/gi)) {
    if (!TEMPLATE_NAMES.some((known) => known === name)) return `knows {agent} and {conn}, not {${name}}`;
  }
  return null;
}

/** Why a text is no topic filter (MQTT 5 section 4.7.1); null: it is one. */
export function topicProblem(text: string): string | null {
  const levels = text.split('/');
  const isWrong = levels.some(
    (level, index) =>
      (level.includes('+') && level !== '+') ||
      (level.includes('#') && (level !== '#' || index < levels.length - 1)),
  );
  return isWrong
    ? 'has a wildcard beside other characters of its level, or # before its end'
    : templateProblem(text);
}

/** Why a text is no password; null: it is one. */
export function passwordProblem(text: string): string | null {
  const bytes = new TextEncoder().encode(text).length;
  return bytes >= 1 && bytes <= PASSWORD_BYTES_MAX ? null : `must have 1 to ${PASSWORD_BYTES_MAX} bytes`;
}

/** Client certificates of a run, and the characters of one file and of all: they travel in one message. */
export const PAIRS_MAX = 4_096;
export const PEM_CHARACTERS_MAX = 65_536;
export const PAIRS_CHARACTERS_MAX = 4_194_304;

/** Whether all pairs together keep to the bounds. */
export function arePairsBounded(pairs: readonly { readonly cert: string; readonly key: string }[]): boolean {
  const characters = pairs.reduce((sum, { cert, key }) => sum + cert.length + key.length, 0);
  return pairs.length <= PAIRS_MAX && characters <= PAIRS_CHARACTERS_MAX;
}

/** Protocols that are offered by ALPN at most. */
export const ALPN_MAX = 16;

/** Whether a text can be offered by ALPN: a name has 1 to 255 bytes (RFC 7301 section 3.1); those in use are visible ASCII. */
export function isAlpnName(text: string): boolean {
  return /^[!-+\--~]{1,255}$/.test(text);
}
