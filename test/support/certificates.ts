/**
 * Owns certificates for tests, made by openssl in a folder of their own: a CA, one that nobody trusts, a good server
 * certificate, one for another name and one that has expired. Must never be used outside of loopback.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface KeyPair {
  readonly keyPath: string;
  readonly certPath: string;
  readonly key: string;
  readonly cert: string;
}

export interface Certificates {
  readonly folder: string;
  readonly ca: KeyPair;
  readonly unknownCa: KeyPair;
  /** for server.test and 127.0.0.1 */
  readonly good: KeyPair;
  /** for other.test only */
  readonly otherName: KeyPair;
  /** for server.test and 127.0.0.1, until yesterday */
  readonly expired: KeyPair;
  /** for clients, signed by `ca`, in a folder of their own as client-0.crt and so on, named device-0 and so on */
  readonly clients: { readonly folder: string; readonly pairs: readonly KeyPair[] };
  /** for a client, signed by `unknownCa` */
  readonly strangeClient: KeyPair;
  remove(): void;
}

/** Makes them all. Synchronous: takes about 0.2 s. */
export function makeCertificates(): Certificates {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-cert-'));
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
  };
  const pairOf = (name: string): KeyPair => {
    const keyPath = join(folder, `${name}.key`);
    const certPath = join(folder, `${name}.pem`);
    return { keyPath, certPath, key: readFileSync(keyPath, 'utf8'), cert: readFileSync(certPath, 'utf8') };
  };
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const authority = (name: string): KeyPair => {
    const files = ['-keyout', `${name}.key`, '-out', `${name}.pem`];
    openssl('req', '-x509', ...newKey, '-days', '30', '-subj', `/CN=${name}`, ...files);
    return pairOf(name);
  };
  writeFileSync(join(folder, 'index.txt'), '');
  writeFileSync(join(folder, 'index.txt.attr'), 'unique_subject = no\n');
  const ca = authority('ca');
  const config = (names: string): string => `
[ca]
default_ca = own
[own]
database = ${join(folder, 'index.txt')}
new_certs_dir = ${folder}
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = leaf
[any]
commonName = supplied
[leaf]
subjectAltName = ${names}
`;
  const server = (name: string, names: string, from: string, until: string): KeyPair => {
    writeFileSync(join(folder, `${name}.cnf`), config(names));
    openssl('req', ...newKey, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`);
    const dates = ['-startdate', from, '-enddate', until];
    const signer = ['-cert', 'ca.pem', '-keyfile', 'ca.key'];
    const files = ['-in', `${name}.csr`, '-out', `${name}.pem`];
    openssl('ca', '-batch', '-notext', '-config', `${name}.cnf`, ...signer, ...dates, ...files);
    return pairOf(name);
  };
  const day = (offset: number): string =>
    `${new Date(Date.now() + offset * 86_400_000).toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`;
  const names = 'DNS:server.test,IP:127.0.0.1,IP:::1';
  const unknownCa = authority('unknown');
  mkdirSync(join(folder, 'clients'));
  const client = (path: string, name: string, signer: string): KeyPair => {
    const [keyPath, certPath] = [join(folder, `${path}.key`), join(folder, `${path}.crt`)];
    openssl('req', ...newKey, '-subj', `/CN=${name}`, '-keyout', keyPath, '-out', `${path}.csr`);
    const by = ['-CA', `${signer}.pem`, '-CAkey', `${signer}.key`, '-CAcreateserial', '-days', '30'];
    openssl('x509', '-req', '-in', `${path}.csr`, ...by, '-out', certPath);
    return { keyPath, certPath, key: readFileSync(keyPath, 'utf8'), cert: readFileSync(certPath, 'utf8') };
  };
  return {
    folder,
    ca,
    unknownCa,
    clients: {
      folder: join(folder, 'clients'),
      pairs: [0, 1, 2].map((index) => client(`clients/client-${index}`, `device-${index}`, 'ca')),
    },
    strangeClient: client('stranger', 'stranger', 'unknown'),
    good: server('good', names, day(-2), day(30)),
    otherName: server('other', 'DNS:other.test', day(-2), day(30)),
    expired: server('expired', names, day(-30), day(-1)),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
