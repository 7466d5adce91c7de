/**
 * Owns changing a recorded input a little: JSON by its structure, text by its lines and words, bytes by pieces. Every change comes
 * from a seed. Must never know what reads the input.
 */
import type { Random } from '../simulate/random.ts';

/** Values at which readers go wrong. */
const NUMBERS = [
  ...[0, -0, -1, 1, 0.5, 65_535, 65_536, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53, -(2 ** 53), 1e12, 1e21],
  ...[1e300, 5e-324],
] as const;
const TEXTS = [
  ...['', ' ', '\u0000', '\n', '\u001b[31m', '\u202e', '\ud800', '__proto__', 'constructor', 'toString'],
  ...['..', '127.0.0.1', '::', '::ffff:1.2.3.4', 'fe80::1%eth0', '1e999', 'NaN', '-0', 'null', '[]', '0x10'],
] as const;
const KEYS = ['__proto__', 'constructor', 'hasOwnProperty', 'length', 'type', '', ' ', 'toJSON'] as const;
const LONG_MAX = 70_000;
const NESTED_MAX = 2_000;
/** Changes to one input. */
const CHANGES_MAX = 4;

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

function anyValue(random: Random): Json {
  switch (random.whole(0, 8)) {
    case 0:
      return random.of(NUMBERS);
    case 1:
      return random.of(TEXTS);
    case 2:
      return null;
    case 3:
      return random.isLucky(0.5);
    case 4:
      return [];
    case 5:
      return {};
    case 6:
      return Array.from({ length: random.whole(1, 300) }, () => random.of(NUMBERS));
    case 7:
      return random.of(TEXTS).repeat(random.isLucky(0.1) ? Math.ceil(LONG_MAX / 8) : 3);
    default:
      return random.whole(-10, 70_000);
  }
}

/** Every place of a value, as what holds it and under which key. */
function placesOf(value: Json): { holder: Json[] | { [key: string]: Json }; key: string }[] {
  if (typeof value !== 'object' || value === null) return [];
  const places: { holder: Json[] | { [key: string]: Json }; key: string }[] = [];
  for (const [key, below] of Object.entries(value)) {
    places.push({ holder: value, key });
    // Not spread: a list may have more places than a call may have arguments.
    for (const place of placesOf(below)) places.push(place);
  }
  return places;
}

function put(holder: Json[] | { [key: string]: Json }, key: string, value: Json): void {
  if (Array.isArray(holder)) holder[Number(key)] = value;
  else Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
}

function at(holder: Json[] | { [key: string]: Json }, key: string): Json {
  return (Array.isArray(holder) ? holder[Number(key)] : holder[key]) ?? null;
}

function changeJson(value: Json, random: Random): void {
  const places = placesOf(value);
  const place = places[random.whole(0, places.length - 1)];
  const other = places[random.whole(0, places.length - 1)];
  if (place === undefined || other === undefined) return;
  const { holder, key } = place;
  switch (random.whole(0, 5)) {
    case 0:
      if (Array.isArray(holder)) holder.splice(Number(key), 1);
      else delete holder[key];
      break;
    case 1:
      put(holder, key, structuredClone(at(other.holder, other.key)));
      break;
    case 2:
      put(holder, random.of(KEYS), anyValue(random));
      break;
    case 3: {
      const same = structuredClone(at(holder, key));
      if (Array.isArray(holder))
        for (let times = random.whole(1, 200); times > 0; times -= 1) holder.push(same);
      else put(holder, `${key}${random.of(TEXTS)}`, same);
      break;
    }
    default:
      put(holder, key, anyValue(random));
  }
}

/** A JSON text whose structure is changed; now and then its text. */
export function mutatedJson(text: string, random: Random): string {
  if (random.isLucky(0.1)) return mutatedText(text, random);
  if (random.isLucky(0.005)) return '['.repeat(random.whole(1, NESTED_MAX)) + text;
  const value: Json = JSON.parse(text);
  for (let times = random.whole(1, CHANGES_MAX); times > 0; times -= 1) changeJson(value, random);
  return JSON.stringify(value);
}

/** A text whose lines, words and characters are changed. */
export function mutatedText(text: string, random: Random): string {
  let now = text;
  for (let times = random.whole(1, CHANGES_MAX); times > 0; times -= 1) now = changedText(now, random);
  return now;
}

function changedText(text: string, random: Random): string {
  const from = random.whole(0, text.length);
  const to = Math.min(text.length, from + random.whole(0, 12));
  const lines = text.split('\n');
  const line = random.whole(0, lines.length - 1);
  switch (random.whole(0, 7)) {
    case 0:
      return text.slice(0, from) + text.slice(to);
    case 1:
      return text.slice(0, from) + random.of(TEXTS) + text.slice(to);
    case 2:
      return text.slice(0, from) + String(random.of(NUMBERS)) + text.slice(to);
    case 3:
      return text.slice(0, from);
    case 4:
      return lines.toSpliced(line, 1).join('\n');
    case 5:
      return lines.toSpliced(line, 0, ...Array(random.whole(1, 40)).fill(lines[line] ?? '')).join('\n');
    case 6:
      return text.slice(0, from) + text.slice(from, to).repeat(random.whole(2, 400)) + text.slice(to);
    default:
      return text.slice(0, from) + String.fromCharCode(random.whole(0, 255)) + text.slice(from + 1);
  }
}

/** Bytes of which some are others, missing, doubled or moved. */
export function mutatedBytes(bytes: Uint8Array, random: Random): Uint8Array {
  let now = Buffer.from(bytes);
  for (let times = random.whole(1, CHANGES_MAX); times > 0; times -= 1) {
    const from = random.whole(0, now.length);
    const to = Math.min(now.length, from + random.whole(0, 16));
    const piece = now.subarray(from, to);
    const random8 = Buffer.from(Array.from({ length: random.whole(1, 8) }, () => random.whole(0, 255)));
    const parts = [
      [now.subarray(0, from), now.subarray(to)],
      [now.subarray(0, from), random8, now.subarray(to)],
      [now.subarray(0, from), random8, now.subarray(Math.min(now.length, from + random8.length))],
      [now.subarray(0, to), piece, now.subarray(to)],
      [now.subarray(0, from)],
      [now, now.subarray(0, to)],
    ] as const;
    now = Buffer.concat(parts[random.whole(0, parts.length - 1)] ?? []);
  }
  return now;
}

/** Bytes in pieces, as reads bring them. */
export function piecesOf(bytes: Uint8Array, random: Random): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let from = 0; from < bytes.length; ) {
    const to = Math.min(
      bytes.length,
      from + (random.isLucky(0.5) ? random.whole(1, 4) : random.whole(1, 200)),
    );
    pieces.push(bytes.subarray(from, to));
    from = to;
  }
  return pieces;
}
