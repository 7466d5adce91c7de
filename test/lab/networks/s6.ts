/** S6: clients spread over a range of ports. Owns its description, must never start anything. */
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

export const s6: LabNetwork = {
  name: 'S6',
  drawing: `
   WAN clients 1.2.3.11, .12, .13
               │
               │ 1.2.3.4:8000, :8001, :8002
           ┌───┴──┐
           │Router│  DNAT to 192.168.0.101, same port
           └───┬──┘  and masquerade: everything leaves from 192.168.0.1
               │
           ┌───┴──┐
           │Server│  192.168.0.101:8000, :8001, :8002 (nginx)
           └──────┘`,
  cases: (scale) => {
    const asked = scale.isShort ? 3_500 : 130_000;
    return [
      {
        label: null,
        hosts: {
          client: wanClient(3),
          router: router(natRules([`tcp dport 8000-8002 dnat to ${SERVER}`], [masquerade(scale)])),
          server: lanServer(),
        },
        parts: [{ kind: 'nginx', host: 'server', ports: [8000, 8001, 8002] }],
        servers: ['server'],
        serverPorts: [8000, 8001, 8002],
        asked,
        run: ['--target', `${PUBLIC}:8000-8002`],
        agents: [],
        plan: { args: ['--via', 'masquerade:1', '--via-ports', rangeText(scale.natPorts)], hosts: 1 },
        expected: { held: asked, sources: 1, addresses: [ROUTER], whoRanOut: null },
        path: null,
      },
    ];
  },
  en: {
    title: 'clients spread over several ports',
    question: 'Let clients choose among 1.2.3.4:8000-8002, all forwarded and masqueraded. Does that help?',
    explanation:
      'Yes: the router may use the same port again towards another destination port, because the 4-tuple differs. One ' +
      'address x 64,512 ports x 3 destinations = 193,536. What counts is the port on the *server*: three public ports that are ' +
      'forwarded to one server port share 64,512.',
    lift: 'One more server port, forwarded and listened on, for each further 64,512 connections.',
  },
  zh: {
    title: '客户端分散到多个端口',
    question: '让客户端在 1.2.3.4:8000-8002 中选择，三个端口都转发并做源地址伪装，有用吗？',
    explanation:
      '有用：只要目的端口不同，四元组就不同，路由器可以把同一个源端口再用一次。1 个地址 x 64,512 个端口 x 3 个目的端口 = 193,536。' +
      '关键在于**服务器**上的端口：如果三个公网端口都转发到同一个服务器端口，它们还是共用 64,512。',
    lift: '每多 64,512 个连接，就多监听并转发一个服务器端口。',
  },
};
