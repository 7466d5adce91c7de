import assert from 'node:assert/strict';
import { after, describe, it, type TestContext } from 'node:test';
import type { TlsOptions } from 'node:tls';
import { generateToken } from '../../src/control/token.ts';
import { makeCertificates } from '../support/certificates.ts';
import { startImpostor, startTalker, tryToJoin } from '../support/control-peers.ts';

const certificates = makeCertificates();
const { good, otherName, ca } = certificates;

/** What an agent's environment may say about whom to trust. */
const TRUSTING: readonly NodeJS.ProcessEnv[] = [
  {},
  { NODE_EXTRA_CA_CERTS: ca.certPath },
  { NODE_EXTRA_CA_CERTS: ca.certPath, NODE_TLS_REJECT_UNAUTHORIZED: '0' },
  { SSL_CERT_FILE: ca.certPath, NODE_OPTIONS: '--use-openssl-ca' },
];

const CERTIFIED: Readonly<Record<string, TlsOptions>> = {
  'a certificate of an authority that the agent trusts, for the right name': {
    key: good.key,
    cert: good.cert,
  },
  'a certificate for another name': { key: otherName.key, cert: otherName.cert },
  'the certificate of the authority itself': { key: ca.key, cert: ca.cert },
  'a certificate, when asked for a key that it does not take': {
    key: good.key,
    cert: good.cert,
    pskCallback: () => null,
  },
  'a certificate and TLS 1.2 or 1.3': {
    key: good.key,
    cert: good.cert,
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
  },
};

const [BEST] = Object.values(CERTIFIED);

async function assertRefused(t: TestContext, options: TlsOptions, env: NodeJS.ProcessEnv): Promise<void> {
  const impostor = await startImpostor(t, options);
  const { code, message } = await tryToJoin(t, impostor.port, generateToken(), { env });
  assert.equal(code, 'control-channel', message);
  assert.match(message, /does not have the key of this token/);
  assert.equal(impostor.heardBytes, 0, 'nothing was said to it');
  assert.equal(impostor.secured, 0, 'the handshake was not finished');
}

describe('an agent', () => {
  after(() => certificates.remove());

  for (const [what, options] of Object.entries(CERTIFIED)) {
    it(`says nothing to a server with ${what}, whatever the environment trusts`, async (t) => {
      // Every environment for the certificate that is best; the one that trusts most for the others.
      const envs = options === BEST ? TRUSTING : TRUSTING.slice(2, 3);
      for (const env of envs) await assertRefused(t, options, env);
    });
  }

  it('says nothing to a server with another key', async (t) => {
    const impostor = await startImpostor(t, {
      minVersion: 'TLSv1.3',
      ciphers: 'TLS_AES_128_GCM_SHA256',
      pskCallback: () => Buffer.alloc(32, 1),
    });
    const { code } = await tryToJoin(t, impostor.port, generateToken());
    assert.equal(code, 'control-channel');
    assert.deepEqual([impostor.secured, impostor.heardBytes], [0, 0]);
  });

  it('says nothing to a server of TLS 1.2 with the key: no forward secrecy', async (t) => {
    const token = generateToken();
    const impostor = await startImpostor(t, {
      minVersion: 'TLSv1.2',
      maxVersion: 'TLSv1.2',
      ciphers: 'PSK-AES128-GCM-SHA256',
      pskCallback: () => token.key,
    });
    const { code } = await tryToJoin(t, impostor.port, token);
    assert.equal(code, 'control-channel');
    assert.deepEqual([impostor.secured, impostor.heardBytes], [0, 0]);
  });

  it('speaks to a server that has the key: so the checks above are about the key', async (t) => {
    const token = generateToken();
    const keyed = await startImpostor(t, {
      minVersion: 'TLSv1.3',
      ciphers: 'TLS_AES_128_GCM_SHA256',
      pskCallback: () => token.key,
    });
    const joining = tryToJoin(t, keyed.port, token);
    joining.catch(() => {});
    for (let tries = 0; tries < 3_000 && keyed.heardBytes === 0; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.ok(keyed.heardBytes > 0, 'the upgrade was asked for');
  });

  it('has one clear word for what is no TLS at all', async (t) => {
    for (const says of ['HTTP/1.1 400 Bad Request\r\n\r\n', Buffer.alloc(4_000, 'A')]) {
      const { code, message } = await tryToJoin(t, await startTalker(t, says), generateToken());
      assert.equal(code, 'control-channel');
      assert.match(message, /is not the coordinator/);
    }
  });
});
