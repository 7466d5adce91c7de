/** S9: the server on the WAN cable. Owns its description, must never start anything. */
import type { LabNetwork } from '../description.ts';
import { ACCEPTING, PUBLIC, wanClient } from '../hosts.ts';

export const s9: LabNetwork = {
  name: 'S9',
  drawing: `
   WAN clients 1.2.3.11, .12, .13
               │
           ┌───┴──┐
           │Server│  1.2.3.4:8000 (nginx)
           └──────┘`,
  cases: (scale) => {
    const asked = scale.isShort ? 2_000 : 130_000;
    return [
      {
        label: null,
        hosts: { client: wanClient(3), server: { on: { wan: [`${PUBLIC}/24`] }, sysctls: ACCEPTING } },
        parts: [{ kind: 'nginx', host: 'server', ports: [8000] }],
        servers: ['server'],
        serverPorts: [8000],
        asked,
        run: ['--target', `${PUBLIC}:8000`],
        agents: [],
        plan: { args: ['--via', 'direct'], hosts: 1 },
        expected: {
          held: asked,
          sources: 3,
          addresses: ['1.2.3.11', '1.2.3.12', '1.2.3.13'],
          whoRanOut: null,
        },
        path: null,
      },
    ];
  },
  en: {
    title: 'the server on the WAN cable',
    question: 'Plug the WAN cable into the server: is that the only way?',
    explanation:
      'It works, as on the LAN (S1): the server sees every client by itself. But it gains nothing over plain port ' +
      'forwarding (S2), which has no ceiling either, and it leaves the server without the router in front.',
    lift: 'Nothing to lift.',
  },
  zh: {
    title: '服务器直连 WAN',
    question: '只有让服务器直连 WAN 这一条路吗？',
    explanation:
      '这样可行，和局域网（S1）一样：服务器看到的就是每个客户端本身。但与单纯的端口转发（S2）相比并没有好处，后者同样没有上限；而服务器前面却少了路由器。',
    lift: '无需突破。',
  },
};
