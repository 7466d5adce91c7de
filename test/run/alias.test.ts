import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BenchError } from '../../src/base/errors.ts';
import {
  addArguments,
  aliasKey,
  aliasLabel,
  DEVICE_NAME_PATTERN,
  hostAlias,
  parseSourcePrefix,
  prefixAliases,
  prefixText,
  removeArguments,
  renewArguments,
} from '../../src/run/alias.ts';

test('an alias is one host with a label and a lifetime; IPv6 has no label and no duplicate detection', () => {
  const four = hostAlias('10.9.0.5', 'eth0');
  const six = hostAlias('FD09::5', 'eth0');
  assert.equal(
    addArguments(four, 60),
    'addr add 10.9.0.5/32 dev eth0 label eth0:c100k valid_lft 60 preferred_lft 60',
  );
  assert.equal(addArguments(six, 60), 'addr add fd09::5/128 dev eth0 nodad valid_lft 60 preferred_lft 60');
  assert.equal(renewArguments(six, 5), 'addr change fd09::5/128 dev eth0 nodad valid_lft 5 preferred_lft 5');
  assert.equal(removeArguments(four), 'addr del 10.9.0.5/32 dev eth0 label eth0:c100k');
  assert.equal(removeArguments(six), 'addr del fd09::5/128 dev eth0');
  assert.equal(aliasKey(four), '10.9.0.5/32 dev eth0');
});

test('for a person the command has neither lifetime nor label', () => {
  assert.equal(addArguments(hostAlias('10.9.0.5', 'eth0'), null), 'addr add 10.9.0.5/32 dev eth0');
  assert.equal(addArguments(hostAlias('fd09::5', 'eth0'), null), 'addr add fd09::5/128 dev eth0 nodad');
});

test('a label has at most 15 characters: a device with a longer name gets none', () => {
  assert.equal(aliasLabel('enp0s31f6'), 'enp0s31f6:c100k');
  assert.equal(aliasLabel('enp0s31f6a'), null);
  assert.doesNotMatch(addArguments(hostAlias('10.9.0.5', 'wlxabcdefabcdef'), 60), /label/);
});

test('names of devices are as the kernel allows them, so that none can become a second command', () => {
  for (const name of ['eth0', 'br-lan', 'eth0.100', 'veth1@if2', 'wlxabcdefabcdef'])
    assert.match(name, DEVICE_NAME_PATTERN);
  for (const name of ['', '.', '..', 'a b', 'a/b', 'eth0\naddr del', 'a;b', 'morethansixteenx']) {
    assert.doesNotMatch(name, DEVICE_NAME_PATTERN);
  }
});

test('an IPv4 network is one alias on lo and all its hosts', () => {
  const prefix = parseSourcePrefix('10.1.0.0/20');
  assert.equal(prefixText(prefix), '10.1.0.0/20');
  assert.equal(prefix.addresses.length, 4_094);
  assert.deepEqual(
    prefixAliases(prefix, (address) => address === '10.1.0.1'),
    [{ address: '10.1.0.2', family: 4, prefix: 20, device: 'lo' }],
  );
});

test('an IPv6 network is an alias for each of its first addresses, without the one of every router', () => {
  const wide = parseSourcePrefix('fd01::/64');
  assert.equal(wide.addresses.length, 1_023);
  assert.equal(wide.addresses[0], 'fd01::1');
  assert.deepEqual(
    prefixAliases(parseSourcePrefix('fd01::10/127'), () => false),
    [
      { address: 'fd01::10', family: 6, prefix: 128, device: 'lo' },
      { address: 'fd01::11', family: 6, prefix: 128, device: 'lo' },
    ],
  );
});

test('what is no network is refused with what to type', () => {
  for (const text of [
    '10.1.0.0',
    '10.1.0.1/20',
    '10.0.0.0/8',
    'fd01::1/64',
    'fd01::/129',
    '10.1.0.0/33',
    'lan/24',
    '',
  ]) {
    assert.throws(
      () => parseSourcePrefix(text),
      (error) => error instanceof BenchError && error.exitCode === 2 && error.hint.length > 0,
      text,
    );
  }
});
