import assert from 'node:assert/strict';
import { test } from 'node:test';
import { whyUnsafe } from '../../src/base/file-trust.ts';

const US = 1_000;
const STRANGER = 65_534;

test('who may read a token file decides whether it is used', () => {
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
    [STRANGER, 0o600, /belongs to another user/],
    [STRANGER, 0o644, /belongs to another user/],
  ];
  for (const [uid, permissions, why] of cases) {
    const said = whyUnsafe({ uid, mode: 0o100_000 | permissions }, US);
    if (why === null) assert.equal(said, null, `${uid} ${permissions.toString(8)}`);
    else assert.match(said ?? '', why, `${uid} ${permissions.toString(8)}`);
  }
  assert.match(whyUnsafe({ uid: 0, mode: 0o100_640 }, 0) ?? '', /group/, 'for root, root is the owner');
});
