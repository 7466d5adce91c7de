/** S11: one masquerading router, two servers. Owns its description, must never start anything. */
import type { LabNetwork } from '../description.ts';
import {
  lanServer,
  masquerade,
  natRules,
  PUBLIC,
  ROUTER,
  rangeText,
  router,
  SERVER,
  wanClient,
} from '../hosts.ts';

const SECOND = '192.168.0.103';

export const s11: LabNetwork = {
  name: 'S11',
  drawing: `
   WAN clients 1.2.3.11, .12, .13
               │
               │ 1.2.3.4:8000 and 1.2.3.4:8001
           ┌───┴──┐
           │Router│  DNAT to a server each, and masquerade from 192.168.0.1
           └───┬──┘
       ┌───────┴───────┐
   ┌───┴───┐       ┌───┴───┐
   │Server1│       │Server2│
   └───────┘       └───────┘
192.168.0.101   192.168.0.103`,
  cases: (scale) => {
    const each = scale.isShort ? 1_200 : 50_000;
    return [
      {
        label: null,
        hosts: {
          client: wanClient(3),
          router: router(
            natRules(
              [`tcp dport 8000 dnat to ${SERVER}:8000`, `tcp dport 8001 dnat to ${SECOND}:8000`],
              [masquerade(scale)],
            ),
          ),
          server1: lanServer(),
          server2: lanServer(SECOND),
        },
        parts: [
          { kind: 'serve', host: 'server1', mode: 'whoami', port: 8000 },
          { kind: 'serve', host: 'server2', mode: 'whoami', port: 8000 },
        ],
        servers: ['server1', 'server2'],
        serverPorts: [8000],
        asked: 2 * each,
        run: ['--target', `${PUBLIC}:8000-8001`, '--probe', 'whoami'],
        agents: [],
        plan: { args: ['--via', 'masquerade:1', '--via-ports', rangeText(scale.natPorts)], hosts: 1 },
        expected: {
          held: 2 * each,
          sources: 1,
          addresses: [ROUTER],
          perServer: { server1: each, server2: each },
          whoRanOut: null,
        },
        path: null,
      },
    ];
  },
  en: {
    title: 'one masquerading router, two servers',
    question: 'Do two servers behind one masquerading router share its 64,512 ports?',
    explanation:
      'It does not. An answer in the thread says so, but the ports are counted for each *destination*: towards the second server ' +
      'the router may use the same port again, because the 4-tuple differs. 1 address x 64,512 ports x 2 servers = 129,024, so ' +
      'both get all of theirs.',
    lift: 'Each further server behind the router brings 64,512 connections of its own.',
  },
  zh: {
    title: '一台做源地址伪装的路由器，两台服务器',
    question: '同一台伪装路由器后面的两台服务器要共用它的 64,512 个端口吗？',
    explanation:
      '不用。原帖有个回答说要共用，但端口是按**目的地**计算的：面向第二台服务器时四元组不同，路由器可以再用同一个端口。' +
      '1 个地址 x 64,512 个端口 x 2 台服务器 = 129,024，所以两台都能拿到全部连接。',
    lift: '路由器后面每多一台服务器，就多 64,512 个连接。',
  },
};
