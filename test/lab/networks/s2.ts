/** S2: the router forwards a port and does nothing else. Owns its description, must never start anything. */
import type { LabNetwork } from '../description.ts';
import { lanServer, natRules, PUBLIC, router, SERVER, wanClient } from '../hosts.ts';

export const s2: LabNetwork = {
  name: 'S2',
  drawing: `
   WAN clients 1.2.3.11, .12, .13
               │
               │ 1.2.3.4:8000
           ┌───┴──┐
           │Router│  DNAT to 192.168.0.101:8000
           └───┬──┘  192.168.0.1
               │
           ┌───┴──┐
           │Server│  192.168.0.101
           └──────┘`,
  cases: (scale) => {
    const asked = scale.isShort ? 2_000 : 130_000;
    return [
      {
        label: null,
        hosts: {
          client: wanClient(3),
          router: router(natRules([`tcp dport 8000 dnat to ${SERVER}:8000`], [])),
          server: lanServer(),
        },
        parts: [{ kind: 'serve', host: 'server', mode: 'whoami', port: 8000 }],
        servers: ['server'],
        serverPorts: [8000],
        asked,
        run: ['--target', `${PUBLIC}:8000`, '--probe', 'whoami'],
        agents: [],
        plan: { args: ['--via', 'dnat'], hosts: 1 },
        expected: {
          held: asked,
          sources: 3,
          addresses: ['1.2.3.11', '1.2.3.12', '1.2.3.13'],
          whoRanOut: null,
        },
        path: { args: [], says: /^your router forwards without translating: no 64k ceiling from the path/ },
      },
    ];
  },
  en: {
    title: 'a router that forwards a port (DNAT only)',
    question:
      'The router forwards 1.2.3.4:8000 to 192.168.0.101:8000. Does the server see only the router, and is 65,535 the end?',
    explanation:
      'No. Port forwarding rewrites the *destination*. The source address and port stay the client’s own, so the server sees ' +
      'every client by itself, exactly as on the LAN. The router keeps one conntrack entry per connection and needs none of ' +
      'its own ports for it.',
    lift:
      'There is no ceiling to lift. The router’s table must be large enough (`net.netfilter.nf_conntrack_max`), and the ' +
      'server’s answers must go back through the router.',
  },
  zh: {
    title: '只做端口转发的路由器（仅 DNAT）',
    question:
      '路由器把 1.2.3.4:8000 转发到 192.168.0.101:8000。服务器是不是只能看到路由器，65,535 就到头了？',
    explanation:
      '不是。端口转发只改写**目的**地址，源地址和源端口仍是客户端自己的，所以服务器看到的就是每个客户端本身，和局域网里完全一样。' +
      '路由器为每个连接保存一条 conntrack 记录，但不占用它自己的任何端口。',
    lift: '本来就没有上限。只需保证路由器的连接跟踪表够大（`net.netfilter.nf_conntrack_max`），并且服务器的回包仍经过路由器。',
  },
};
