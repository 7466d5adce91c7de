/**
 * Owns the rows of what a session is asked with: client certificates, ALPN, resumption, MQTT. Must never read a value (flags.ts).
 */
import { KEEP_ALIVE_SEC_MAX } from '../../base/session-options.ts';
import { type CommandName, flagSwitch, one } from './flag.ts';
import { alpnNames, clientId, mqttPassword, mqttUser, topic } from './session-types.ts';
import { choice, duration, file } from './value-types.ts';

const RUN: readonly CommandName[] = ['run', 'plan'];

/** Part of the table (flags.ts). */
export const SESSION_FLAGS = {
  'tls-cert': one({
    ...file,
    group: 'Proof:',
    commands: RUN,
    describe:
      'tls, wss, https, mqtts: file with the client certificate and its chain, PEM; or a folder of pairs NAME.crt and NAME.key, dealt out by connection',
    pods: {
      why: 'a private key is no part of manifests: mount a Secret of your own in the pod of the coordinator',
    },
  }),
  'tls-key': one({
    ...file,
    group: 'Proof:',
    commands: RUN,
    describe: 'tls, wss, https, mqtts: file with the key of the client certificate, PEM, not encrypted',
    defaultNote: 'in the file of --tls-cert',
    pods: {
      why: 'a private key is no part of manifests: mount a Secret of your own in the pod of the coordinator',
    },
  }),
  alpn: one({
    ...alpnNames,
    group: 'Proof:',
    commands: RUN,
    describe:
      'tls, wss, https, mqtts: protocols to offer by ALPN, the preferred first; the report has what the server chose',
    defaultNote: 'http/1.1; nothing with mqtts',
    pods: 'argument',
  }),
  'tls-resume': flagSwitch({
    group: 'Proof:',
    commands: RUN,
    describe:
      'tls, wss, https, mqtts: offer the latest session of the endpoint to it again; the report says how many were resumed',
    pods: 'argument',
  }),
  'mqtt-version': one({
    ...choice('5', '3.1.1'),
    group: 'Proof:',
    commands: RUN,
    describe: 'mqtt, mqtts: the version to speak; only 5 lets the broker say why it ends a session',
    default: '5',
    pods: 'argument',
  }),
  'mqtt-client-id': one({
    ...clientId,
    group: 'Proof:',
    commands: RUN,
    describe:
      'mqtt, mqtts: the client id; {agent} and {conn} stand for the agent and the number of the connection',
    defaultNote: 'c100k-XXXX-{agent}-{conn}, XXXX different in each run',
    pods: 'argument',
  }),
  'mqtt-user': one({
    ...mqttUser,
    fileAt: true,
    group: 'Proof:',
    commands: RUN,
    describe:
      'mqtt, mqtts: the user name, with {agent} and {conn} as in the client id; @FILE: what is in the file',
    pods: 'argument',
  }),
  'mqtt-password': one({
    ...mqttPassword,
    fileAt: true,
    group: 'Proof:',
    commands: RUN,
    describe: 'mqtt, mqtts: the password; @FILE: what is in the file',
    pods: { why: 'manifests are passed on: give the pods C100K_MQTT_PASSWORD from a Secret of your own' },
  }),
  'mqtt-keep-alive': one({
    ...duration(0, KEEP_ALIVE_SEC_MAX * 1_000),
    group: 'Proof:',
    commands: RUN,
    describe:
      'mqtt, mqtts: the keep alive, whole seconds; 0: none. A PINGREQ goes out at least each three quarters of it',
    default: '60s',
    pods: 'argument',
  }),
  'mqtt-subscribe': one({
    ...topic,
    group: 'Proof:',
    commands: RUN,
    describe:
      'mqtt, mqtts: the topic filter that each connection subscribes to, with {agent} and {conn}; open once it is granted',
    pods: 'argument',
  }),
};
