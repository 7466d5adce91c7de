/** S3: the router forwards and also masquerades. Owns its description, must never start anything. */
import type { LabNetwork } from '../description.ts';
import {
  lanServer,
  masquerade,
  natRules,
  PATIENT,
  PUBLIC,
  ROUTER,
  rangeText,
  router,
  SERVER,
  wanClient,
} from '../hosts.ts';

export const s3: LabNetwork = {
  name: 'S3',
  drawing: `
   WAN clients 1.2.3.11, .12, .13
               │
               │ 1.2.3.4:8000
           ┌───┴──┐
           │Router│  DNAT to 192.168.0.101:8000
           └───┬──┘  and masquerade: everything leaves from 192.168.0.1
               │
           ┌───┴──┐
           │Server│  192.168.0.101
           └──────┘`,
  cases: (scale) => {
    const asked = scale.isShort ? 1_700 : 70_000;
    const ports = rangeText(scale.natPorts);
    return [
      {
        label: null,
        hosts: {
          client: wanClient(3),
          router: router(natRules([`tcp dport 8000 dnat to ${SERVER}:8000`], [masquerade(scale)])),
          server: lanServer(),
        },
        parts: [{ kind: 'serve', host: 'server', mode: 'whoami', port: 8000 }],
        servers: ['server'],
        serverPorts: [8000],
        asked,
        run: ['--target', `${PUBLIC}:8000`, '--probe', 'whoami', ...PATIENT],
        agents: [],
        plan: { args: ['--via', 'masquerade:1', '--via-ports', ports], hosts: 1 },
        expected: { held: scale.each, sources: 1, addresses: [ROUTER], whoRanOut: 'path' },
        path: {
          args: scale.isShort ? ['--via-ports', ports] : [],
          says: scale.isShort
            ? /^everything arrives from 192\.168\.0\.1: 1,500 connections at most/
            : /^everything arrives from 192\.168\.0\.1: 64,512 connections at most/,
        },
      },
    ];
  },
  en: {
    title: 'a router that also masquerades',
    question: 'And when the router hides the clients behind its own address 192.168.0.1?',
    explanation:
      'Then the fear is right. Towards 192.168.0.101:8000 the router has one address and the ports 1024-65535: ' +
      '65,535 - 1,023 = 64,512 tuples. The next connection finds none: its SYN is dropped in the router, nothing is ' +
      'refused, and the client hangs in SYN_SENT until it gives up.',
    lift:
      'Do not masquerade forwarded ports (S2). If the router must (because the server’s answers would go another way), give it ' +
      'a pool of addresses (S4), use more public addresses (S5) or more server ports (S6).',
  },
  zh: {
    title: '还做源地址伪装（masquerade）的路由器',
    question: '如果路由器把客户端都藏到自己的地址 192.168.0.1 后面呢？',
    explanation:
      '这时担心就应验了。面向 192.168.0.101:8000，路由器只有一个地址和 1024-65535 这些端口：65,535 - 1,023 = 64,512 个四元组。' +
      '再来的连接分不到端口：它的 SYN 在路由器里被静默丢弃，不会有 RST，客户端停在 SYN_SENT 直到超时。',
    lift: '转发的端口不要做源地址伪装（见 S2）。如果非做不可（例如服务器的回包会走别的路），就给路由器一个地址池（S4）、更多公网地址（S5）或更多服务器端口（S6）。',
  },
};
