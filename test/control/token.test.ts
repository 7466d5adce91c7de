import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { BenchError } from '../../src/base/errors.ts';
import {
  agentToken,
  claimsOf,
  formatToken,
  generateToken,
  isMaster,
  knownKeyOf,
  parseToken,
  peerOf,
  pskIdentityOf,
  type Token,
  whyUnsafe,
} from '../../src/control/token.ts';

const CLAIMS = { name: 'host-7', expiresSec: 2_000, targets: ['10.0.0.0/8:8000'] };

/** The key by which an identity gets in now; null: none, or it has expired. */
function keyOf(master: Token, identity: string, wallMs: number): Buffer | null {
  const known = knownKeyOf(master, identity, wallMs);
  return known === null || known.isExpired ? null : known.key;
}

it('a token survives its text form, surrounding white space included', () => {
  for (const token of [generateToken(), agentToken(generateToken(), CLAIMS)]) {
    assert.deepEqual(parseToken(`  ${formatToken(token)}\n`), token);
  }
});

it('two tokens never share a key', () => {
  assert.notDeepEqual(generateToken().key, generateToken().key);
});

it('the coordinator derives the key of an agent again from the master and the identity alone', () => {
  const master = generateToken();
  const token = agentToken(master, CLAIMS);
  assert.deepEqual(keyOf(master, token.identity, 1_999_999), token.key);
  assert.deepEqual(claimsOf(token.identity), CLAIMS);
  assert.ok(isMaster(master) && !isMaster(token));
});

it('an expired token has no key, to the second', () => {
  const master = generateToken();
  const { identity } = agentToken(master, CLAIMS);
  assert.notEqual(keyOf(master, identity, 1_999_999), null);
  assert.equal(keyOf(master, identity, 2_000_000), null);
});

it('another name, expiry or target list needs another key', () => {
  const master = generateToken();
  const key = agentToken(master, CLAIMS).key;
  for (const change of [{ name: 'host-8' }, { expiresSec: null }, { targets: null }, { targets: [] }]) {
    assert.notDeepEqual(agentToken(master, { ...CLAIMS, ...change }).key, key);
  }
});

it('whatever a client without a token sends as an identity never throws and yields no key', () => {
  const master = generateToken();
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json().map((text) => `agent:${text}`),
      ),
      (identity) => {
        const key = keyOf(master, identity, 0);
        assert.ok(key === null || identity === 'master' || claimsOf(identity) !== null);
      },
    ),
    { numRuns: 2_000 },
  );
  assert.equal(keyOf(master, `agent:["${'x'.repeat(10_000)}",null,null]`, 0), null);
});

it('a text that is not a token is refused without repeating it', () => {
  for (const text of ['', 'secret-password', 'c100k1.YQ.AAAA', `${formatToken(generateToken())}.more`]) {
    assert.throws(
      () => parseToken(text),
      (error) => {
        assert.ok(error instanceof BenchError);
        assert.equal(error.exitCode, 2);
        assert.ok(text === '' || !`${error.message}${error.hint}`.includes(text));
        return true;
      },
    );
  }
});

it('only an identity of ours says who a client is: not the empty one, not one too long, not half a claim', () => {
  const master = generateToken();
  const others = [
    '',
    'Master',
    'master ',
    'agent:',
    'agent:[]',
    'agent:["a",null]',
    'agent:["a",1e999,null]',
  ];
  for (const identity of [
    ...others,
    'agent:["a",null,"sha256:short"]',
    `agent:["${'a'.repeat(300)}",null,null]`,
  ]) {
    assert.equal(peerOf(identity), null, identity);
    assert.equal(knownKeyOf(master, identity, 0), null, identity);
  }
  assert.deepEqual(peerOf('master'), { name: null, expiresSec: null });
  assert.deepEqual(peerOf('agent:["a",5,[]]'), { name: 'a', expiresSec: 5 });
});

it('a token of any length that can be made fits into TLS, is read again, and has a key of its own', () => {
  const master = generateToken();
  fc.assert(
    fc.property(
      fc.string({ minLength: 1, maxLength: 40 }),
      fc.array(fc.string({ maxLength: 40 }), { maxLength: 60 }),
      (name, targets) => {
        const make = () => agentToken(master, { name, expiresSec: 2_000, targets });
        let token: ReturnType<typeof make>;
        try {
          token = make();
        } catch (error) {
          assert.ok(error instanceof BenchError && error.code === 'bad-token');
          return;
        }
        const onWire = pskIdentityOf(token.identity);
        assert.ok(Buffer.byteLength(onWire) <= 256);
        assert.deepEqual(parseToken(formatToken(token)), token);
        assert.ok(formatToken(token).length < 4_096, 'every reader takes a line of that length');
        assert.deepEqual(keyOf(master, onWire, 0), token.key);
        assert.deepEqual(peerOf(onWire), { name, expiresSec: 2_000 });
        const fewer = agentToken(master, { name, expiresSec: 2_000, targets: targets.slice(1) });
        assert.ok(targets.length === 0 || !fewer.key.equals(token.key));
      },
    ),
    { numRuns: 500 },
  );
});

it('the identity on the wire is no token: it does not say what its agent may do', () => {
  const targets = Array.from({ length: 60 }, (_, index) => `10.${index}.0.0/16:8000`);
  const token = agentToken(generateToken(), { name: 'a', expiresSec: null, targets });
  assert.throws(() => parseToken(formatToken({ ...token, identity: pskIdentityOf(token.identity) })));
});

const OTHER_USER = 65_534;
const US = 1_000;

it('who may read a token file decides whether it is used', () => {
  const cases: readonly [owner: number, mode: number, why: RegExp | null][] = [
    [US, 0o600, null],
    [US, 0o400, null],
    [US, 0o700, null],
    [US, 0o640, /group can use it \(mode 0640\)/],
    [US, 0o620, /group/],
    [US, 0o604, /every user .*\(mode 0604\)/],
    [US, 0o602, /every user/],
    [US, 0o644, /every user/],
    [0, 0o400, null],
    // A Secret of Kubernetes with fsGroup; a credential of systemd with an access list.
    [0, 0o440, null],
    [0, 0o444, /every user/],
    [0, 0o644, /every user/],
    [OTHER_USER, 0o600, /belongs to another user/],
    [OTHER_USER, 0o644, /belongs to another user/],
  ];
  for (const [uid, permissions, why] of cases) {
    const said = whyUnsafe({ uid, mode: 0o100_000 | permissions }, US);
    if (why === null) assert.equal(said, null, `${uid} ${permissions.toString(8)}`);
    else assert.match(said ?? '', why, `${uid} ${permissions.toString(8)}`);
  }
  assert.match(whyUnsafe({ uid: 0, mode: 0o100_640 }, 0) ?? '', /group/, 'for root, root is the owner');
});
