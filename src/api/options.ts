/**
 * Owns the options of the library: their types, their names, and how each becomes the flag that it stands for, so that both
 * are checked by the same code. Must never start anything.
 */
import { BenchError, ErrorCode, usageError } from '../base/errors.ts';
import { formatCount, RATE_PER_SEC_MAX } from '../base/units.ts';
import { NeverRanError } from '../coordinator/expected-agents.ts';
import type { Bounds, Flag } from './flags/flag.ts';
import { type FlagValues, flagsOf } from './flags/flags.ts';
import { nearestWord } from './flags/value-types.ts';

/** What a run and a plan are asked for; each option is a flag of docs/MANUAL.md, and means the same. */
interface CommonOptions {
  /** what to connect to: `host:port`, `echo://host:port`, `wss://host/path`, ..., or `self` for the built-in target */
  readonly target: string | readonly string[];
  /** connections to hold, 1 to 100,000,000 */
  readonly conns?: number;
  /** in place of `conns` and `durationMs`: `2m:130k` reaches 130,000 within two minutes, in a straight line */
  readonly stage?: string | readonly string[];
  /** which are closed where the stages go down; default `newest` */
  readonly closeOrder?: 'newest' | 'oldest';
  /** connections that are closed and opened anew each second while their number stays */
  readonly churnPerSec?: number;
  /** how long each connection lives before it is closed and another opened: `30s`, `exp:60s` or `uniform:10s..2m` */
  readonly lifetime?: string;
  /** connects per second, above 0; default: as fast as the target accepts */
  readonly ratePerSec?: number;
  /** how long to hold after the ramp, milliseconds, up to 365 days; 0: until `signal` ends it; default 30,000 */
  readonly durationMs?: number;
  /** a connect that takes longer has failed, milliseconds; default 10,000 */
  readonly connectTimeoutMs?: number;
  /** connects in flight at most; default 1,000 */
  readonly maxPending?: number;
  /** how connections are closed; default `rst` */
  readonly close?: 'fin' | 'rst';
  /** source addresses, ranges `a-b` or CIDRs; default: those of the interface towards the target */
  readonly sourceIp?: string | readonly string[];
  /** source ports in order of preference, such as `1024-32767,61000-65535` */
  readonly sourcePorts?: string;
  /** networks that are routed to this host; needs root */
  readonly sourcePrefix?: string | readonly string[];
  /** device that missing addresses of `sourceIp` are added to for the run, or `auto`; needs root */
  readonly aliasDev?: string;
  /** lifetime of added addresses, milliseconds, 5 s to 1 h; default 60,000 */
  readonly aliasLeaseMs?: number;
  /** what a target without a scheme proves itself with */
  readonly probe?: 'echo' | 'whoami';
  /** how often each connection must prove itself, milliseconds; default 10,000 where the target answers */
  readonly probeEveryMs?: number;
  /** a probe that is not answered within this time drops its connection, milliseconds; default 10,000 */
  readonly probeTimeoutMs?: number;
  /** a connection that is lost while held is counted, or counted and opened again; default `count` */
  readonly onDrop?: 'count' | 'reopen';
  /** when a lost connection is opened again: `immediate`, `fixed:1s` or `backoff:1s..60s`; default `immediate` */
  readonly reopenAfter?: string;
  /** where the name of a connection's back end stands: `/regex/` with one group over its first bytes, or `header:NAME` */
  readonly backendFrom?: string;
  /** the part of each wait that is left to chance, such as `50%`; default `0%` */
  readonly reopenJitter?: string;
  /** tcp, tls: the target speaks first, and begins with this text; `any`: with anything */
  readonly expectBanner?: string;
  /** ws, wss: a text message to send before each ping */
  readonly wsMessage?: string;
  /** tcp, tls, ws, wss: what to send once when a connection is open, such as `PING\r\n`; a template: see Messages in the manual */
  readonly firstMessage?: string;
  /** tcp, tls, ws, wss: what an answer begins with, or a `/regular expression/` */
  readonly expect?: string;
  /** tcp, tls, ws, wss: what to answer when the target says something, such as `2=3` */
  readonly answer?: string | readonly string[];
  /** tcp, tls, echo, ws, wss: a message that each connection sends again and again; a template */
  readonly send?: string;
  /** how often each connection sends its message, milliseconds, 100 ms to 7 days; default 1,000 */
  readonly sendEveryMs?: number;
  /** http, https: the status that proves, 200 to 599; default: 200 to 399 */
  readonly httpStatus?: number;
  /** ws, wss, http, https: what to send as Host; default: the host of `target` */
  readonly hostHeader?: string;
  /** ws, wss, http, https: headers to send, such as `Authorization: Bearer x`; `@FILE`: those in the file */
  readonly header?: string | readonly string[];
  /** ws, wss: subprotocols to offer, of which the server must choose one */
  readonly wsProtocol?: string | readonly string[];
  /** http, https: the method of each request; default `GET`, with a body `POST` */
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'OPTIONS';
  /** http, https: the body of each request; `@FILE`: what is in the file */
  readonly body?: string;
  /** mqtt, mqtts: the version to speak; default `5` */
  readonly mqttVersion?: '5' | '3.1.1';
  /** mqtt, mqtts: the client id; `{agent}` and `{conn}` stand for the agent and the number of the connection */
  readonly mqttClientId?: string;
  /** mqtt, mqtts: the user name, with `{agent}` and `{conn}`; `@FILE`: what is in the file */
  readonly mqttUser?: string;
  /** mqtt, mqtts: the password; `@FILE`: what is in the file */
  readonly mqttPassword?: string;
  /** mqtt, mqtts: the keep alive, milliseconds, whole seconds up to 65,535,000; 0: none; default 60,000 */
  readonly mqttKeepAliveMs?: number;
  /** mqtt, mqtts: the topic filter that each connection subscribes to, with `{agent}` and `{conn}` */
  readonly mqttSubscribe?: string;
  /** each connection begins with a PROXY header of this version, before any protocol */
  readonly proxyProtocol?: 'v1' | 'v2';
  /** with `proxyProtocol`: the network of the clients in the header; default: each connection says its own source */
  readonly proxySource?: string;
  /** tls, wss, https, mqtts: name to ask for (SNI) and to find in the certificate; default: the host of `target` */
  readonly tlsServername?: string;
  /** tls, wss, https, mqtts: file with the certificates to trust, PEM; default: those of Node.js */
  readonly tlsCa?: string;
  /** tls, wss, https, mqtts: file with the client certificate and its chain, PEM; or a folder of pairs */
  readonly tlsCert?: string;
  /** tls, wss, https, mqtts: file with the key of the client certificate, PEM; default: in the file of `tlsCert` */
  readonly tlsKey?: string;
  /** tls, wss, https, mqtts: protocols to offer by ALPN, a comma list; default `http/1.1`, nothing with mqtts */
  readonly alpn?: string;
  /** tls, wss, https, mqtts: offer the latest session of an endpoint to it again; default false */
  readonly tlsResume?: boolean;
  /** tls, wss, https, mqtts: take any certificate; default false */
  readonly insecure?: boolean;
  /** holder processes on this host, 1 to 256; default: as many as descriptors and cores ask for */
  readonly holders?: number;
  /** how sockets are driven on this host; default: io_uring where it works, otherwise epoll */
  readonly engine?: 'auto' | 'uring' | 'epoll';
}

/** What `run` is asked for. */
export interface BenchOptions extends CommonOptions {
  /** what must be true at the end, such as `held>=99.9%`; default `held>=100%` */
  readonly require?: string | readonly string[];
  /** end as soon as a requirement can no longer hold; default false */
  readonly abortEarly?: boolean;
  /** `http://host:port` where each target reports its own count */
  readonly targetStats?: string | readonly string[];
  /** who takes a quota: `local`, `remote` or `local,remote` */
  readonly agents?: string;
  /** how many agents will join from elsewhere */
  readonly expectAgents?: number;
  /** `address:port` where agents join; default: 127.0.0.1 and a free port */
  readonly listen?: string;
  /** how long to wait for agents, milliseconds, up to 7 days; default 60,000 */
  readonly waitAgentsMs?: number;
  /** a lost agent ends the run, is gone without, or its quota goes to others; default `continue` */
  readonly onAgentLoss?: 'fail' | 'continue' | 'replace';
  /** start an agent on each `user@host` through ssh */
  readonly ssh?: string | readonly string[];
  /** what to run there; default `c100k-bench` */
  readonly sshCommand?: string;
  /** further arguments of ssh */
  readonly sshOption?: string | readonly string[];
  /** `host:port` under which agents reach this coordinator */
  readonly advertise?: string;
  /** file that holds the token; made when it is not there */
  readonly tokenFile?: string;
  /** what reports and metrics call this run */
  readonly name?: string;
}

/** What `plan` is asked for. */
export interface PlanOptions extends CommonOptions {
  /** hops between us and the server, such as `masquerade:1` or `haproxy:3x1` */
  readonly via?: string | readonly string[];
  /** ports that each address of a hop has, such as `32768-60999` */
  readonly viaPorts?: string;
  /** first address of the hop towards the server, for the lines to copy */
  readonly viaSource?: string;
  /** `address:port` of the server as the hop sees it, for the lines to copy */
  readonly viaServer?: string;
}

type OptionValue = string | number | boolean | readonly string[];

/** The flags that are options: those of the output are not, because a caller has the report itself. */
function optionFlags(command: 'run' | 'plan'): readonly Flag[] {
  return flagsOf(command).filter((flag) => flag.group !== 'Output:');
}

const UNITS = { count: '', duration: 'Ms', rate: 'PerSec' } as const;

/** `connectTimeoutMs` for `--connect-timeout`: a number that has a unit names it. */
function optionName({ name, bounds }: Flag): string {
  const camel = name.replaceAll(/-(\w)/g, (_dash, letter: string) => letter.toUpperCase());
  return camel + (bounds === undefined ? '' : UNITS[bounds.kind]);
}

/**
 * The options as values of flags.
 * @throws BenchError (exit 2) for what is no option, or of another type or out of its range
 */
export function optionValues(command: 'run' | 'plan', options: unknown): FlagValues {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw usageError(
      ErrorCode.usage,
      `the options of ${command} are an object, not ${described(options)}`,
      `for example: ${command}({ target: '127.0.0.1:8000', conns: 1000 })`,
    );
  }
  const flags = new Map(optionFlags(command).map((flag) => [optionName(flag), flag]));
  const texts = new Map<string, readonly string[]>();
  for (const [name, value] of Object.entries(options)) {
    const flag = flags.get(name);
    if (flag === undefined) throw unknownOption(command, name, [...flags.keys()]);
    if (value !== undefined) texts.set(flag.name, textsOf(flag, value));
  }
  return {
    one: (name) => texts.get(name)?.[0] ?? null,
    list: (name) => texts.get(name) ?? [],
    on: (name) => texts.get(name)?.[0] === 'true',
    // Dashed, as the checks write every flag; `inOptionWords` makes options of them.
    origin: (name) => `--${name}`,
    isGiven: (name) => texts.has(name),
  };
}

function unknownOption(command: string, name: string, known: readonly string[]): BenchError {
  const near = nearestWord(name, known);
  return usageError(
    ErrorCode.usage,
    `${command} has no option ${name}`,
    near === null ? 'docs/API.md lists every option' : `did you mean ${near}?`,
  );
}

/** A value of any type in words, short. */
function described(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 64));
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return String(value);
  return Array.isArray(value) ? 'an array' : `a value of type ${typeof value}`;
}

/** The texts of the flag that an option stands for. @throws BenchError (exit 2) */
function textsOf(flag: Flag, value: unknown): readonly string[] {
  if (flag.bounds !== undefined) return [flag.write(checkedNumber(flag, flag.bounds, value))];
  if (flag.kind === 'switch') {
    if (typeof value === 'boolean') return [String(value)];
    throw wrongType(flag, 'true or false', value);
  }
  const isList = flag.kind === 'list';
  const all: readonly unknown[] = isList && Array.isArray(value) ? value : [value];
  const texts = all.filter((each) => typeof each === 'string');
  if (texts.length === all.length) return texts;
  const bad = all.find((each) => typeof each !== 'string');
  throw wrongType(flag, isList ? 'a string or an array of strings' : 'a string', bad);
}

function hintOf(flag: Flag): string {
  const example = flag.kind === 'switch' ? true : (flag.choices?.[0] ?? flag.default);
  return example === null
    ? `docs/API.md says what ${optionName(flag)} is`
    : `for example: ${optionName(flag)}: ${JSON.stringify(example)}`;
}

function wrongType(flag: Flag, wanted: string, value: unknown): BenchError {
  return usageError(
    ErrorCode.usage,
    `${optionName(flag)} is ${wanted}, not ${described(value)}`,
    hintOf(flag),
  );
}

function numberError(kind: Bounds['kind'], message: string, hint: string): BenchError {
  switch (kind) {
    case 'count':
      return usageError(ErrorCode.badNumber, message, hint);
    case 'duration':
      return usageError(ErrorCode.badDuration, message, hint);
    case 'rate':
      return usageError(ErrorCode.badRate, message, hint);
  }
}

function checkedNumber(flag: Flag, bounds: Bounds, value: unknown): number {
  const isRate = bounds.kind === 'rate';
  const [min, max] = isRate
    ? [0, RATE_PER_SEC_MAX]
    : bounds.kind === 'count'
      ? [bounds.min, bounds.max]
      : [bounds.minMs, bounds.maxMs];
  const isNumber =
    typeof value === 'number' && (isRate ? Number.isFinite(value) : Number.isSafeInteger(value));
  if (isNumber && value <= max && (isRate ? value > 0 : value >= min)) return value;
  const name = optionName(flag);
  const range = isRate
    ? `a number above 0, at most ${formatCount(max)}`
    : `a whole number from ${formatCount(min)} to ${formatCount(max)}`;
  // What a text or a fraction most likely meant, where that is in the range.
  const meant =
    typeof value === 'string' || typeof value === 'number' ? Math.round(Number(value)) : Number.NaN;
  const example = meant > 0 && meant >= min && meant <= max ? meant : Math.min(max, Math.max(min, 1_000));
  throw numberError(
    bounds.kind,
    `${name} is ${range}, not ${described(value)}`,
    `for example: ${name}: ${example}`,
  );
}

/** A flag in a sentence, with its value where that is no word of the sentence. */
const FLAG_IN_TEXT = /--([a-z][a-z-]*)(?:[ =]('[^']*'|[^\s,;]*[^\s,;:]))?/g;
/** A command line is quoted as it is typed. */
const COMMAND_IN_TEXT = /(c100k-bench [^,;]*)/;

/**
 * A text of the checks, which speak of flags, in words of options: `ratePerSec: 5000` for `--rate 5k/s`.
 * @param command whose options
 */
function inOptionWords(command: 'run' | 'plan', text: string): string {
  const flags = new Map(optionFlags(command).map((flag) => [flag.name, flag]));
  const replaced = (part: string): string =>
    part.replaceAll(FLAG_IN_TEXT, (whole, flagName: string, given: string | undefined) => {
      const flag = flags.get(flagName);
      if (flag === undefined) return whole;
      const name = optionName(flag);
      if (given === undefined || flag.kind === 'switch') return whole.replace(`--${flagName}`, name);
      const value = valueIn(flag, given);
      return value === null ? `${name} ${given}` : `${name}: ${JSON.stringify(value)}`;
    });
  return text
    .split(COMMAND_IN_TEXT)
    .map((part, index) => (index % 2 === 0 ? replaced(part) : part))
    .join('');
}

/** The value of an option in a text; null: it is a word of the sentence. */
function valueIn(flag: Flag, given: string): OptionValue | null {
  const bare = given.replace(/^'(.*)'$/, '$1');
  // A word without a digit or a sign may be either; only quotes show a name that the user chose.
  if (bare === given && !/[\d:.=<>]/.test(bare) && flag.choices?.includes(bare) !== true) return null;
  try {
    const value = flag.parse(bare, `--${flag.name}`);
    return flag.bounds === undefined ? bare : (value as number);
  } catch {
    return null;
  }
}

/** An error of the checks for a caller of the library; any other error as it is. */
export function optionError(command: 'run' | 'plan', error: unknown): unknown {
  if (!(error instanceof BenchError)) return error;
  const [message = '', hint = ''] = [error.message, error.hint].map((text) => inOptionWords(command, text));
  const reworded = new BenchError(error.code, error.exitCode, message, hint, error);
  return error instanceof NeverRanError ? new NeverRanError(reworded, error.report) : reworded;
}
