/** S5: DNS round robin over three public addresses. Owns its description, must never start anything. */
import type { LabNetwork } from '../description.ts';
import { lanServer, natRules, rangeText, router, SERVER, toPorts, wanClient } from '../hosts.ts';

const PUBLICS = ['1.2.3.4', '1.2.3.5', '1.2.3.6'];
const INSIDE = ['192.168.0.1', '192.168.0.2', '192.168.0.3'];
const NAME = 'server.example';

export const s5: LabNetwork = {
  name: 'S5',
  drawing: `
   WAN clients 1.2.3.11, .12, .13      ┌───┐ server.example =
               ├───────────────────────┤DNS│ 1.2.3.4, 1.2.3.5, 1.2.3.6
               │                       └───┘
           ┌───┴──┐  1.2.3.4:8000 leaves from 192.168.0.1
           │Router│  1.2.3.5:8000 leaves from 192.168.0.2
           └───┬──┘  1.2.3.6:8000 leaves from 192.168.0.3
               │
           ┌───┴──┐
           │Server│  192.168.0.101
           └──────┘`,
  cases: (scale) => {
    const asked = scale.isShort ? 3_500 : 130_000;
    const forward = PUBLICS.map((address) => `ip daddr ${address} tcp dport 8000 dnat to ${SERVER}:8000`);
    const rewrite = PUBLICS.map(
      (address, index) =>
        `ct original ip daddr ${address} ip protocol tcp snat to ${INSIDE[index]}${toPorts(scale)}`,
    );
    return [
      {
        label: null,
        hosts: {
          client: wanClient(3, { etc: { 'resolv.conf': 'nameserver 1.2.3.53\n' } }),
          dns: { on: { wan: ['1.2.3.53/24'] } },
          router: router(natRules(forward, rewrite), {
            wan: ['1.2.3.5/24', '1.2.3.6/24'],
            lan: ['192.168.0.2/24', '192.168.0.3/24'],
          }),
          server: lanServer(),
        },
        parts: [
          { kind: 'serve', host: 'server', mode: 'whoami', port: 8000 },
          { kind: 'dns', host: 'dns', name: NAME, addresses: PUBLICS },
        ],
        servers: ['server'],
        serverPorts: [8000],
        asked,
        run: ['--target', `${NAME}:8000`, '--probe', 'whoami'],
        agents: [],
        plan: { args: ['--via', 'masquerade:1', '--via-ports', rangeText(scale.natPorts)], hosts: 1 },
        expected: { held: asked, sources: 3, addresses: INSIDE, whoRanOut: null },
        path: null,
      },
    ];
  },
  en: {
    title: 'DNS round robin over three public addresses',
    question: 'Each public address is masqueraded to an address of its own. Does DNS round robin help?',
    explanation:
      'The name resolves to three addresses, and the tool treats each as one more endpoint. Each public address has its own ' +
      'inner address, and each of these its own 64,512 ports towards the server: 3 x 64,512 = 193,536. It is a pool (S4) ' +
      'that the clients choose from by name. With one *shared* inner address it would not help: then it is S3 again.',
    lift: 'One more public address, with its own inner address and its own DNS record, for each further 64,512 connections.',
  },
  zh: {
    title: '三个公网地址做 DNS 轮询',
    question: '每个公网地址各自伪装成一个内网地址，DNS 轮询有用吗？',
    explanation:
      '域名解析出三个地址，工具把每个地址都当作一个端点。每个公网地址对应自己的内网地址，而每个内网地址面向服务器又有自己的 64,512 个端口：' +
      '3 x 64,512 = 193,536。它其实就是由客户端按域名来选的地址池（S4）。如果三者**共用**一个内网地址就没有用：那又回到了 S3。',
    lift: '每多 64,512 个连接，再加一个公网地址，配上自己的内网地址和 DNS 记录。',
  },
};
