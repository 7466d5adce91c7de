/** S4: an SNAT pool. Owns its description, must never start anything. */
import type { LabNetwork } from '../description.ts';
import { lanServer, natRules, PUBLIC, rangeText, router, SERVER, toPorts, wanClient } from '../hosts.ts';

const POOL = ['192.168.0.11', '192.168.0.12', '192.168.0.13'];

export const s4: LabNetwork = {
  name: 'S4',
  drawing: `
   WAN clients 1.2.3.11, .12, .13
               │
               │ 1.2.3.4:8000
           ┌───┴──┐
           │Router│  DNAT to 192.168.0.101:8000
           └───┬──┘  SNAT to 192.168.0.11, .12, .13 in turn
               │
           ┌───┴──┐
           │Server│  192.168.0.101
           └──────┘`,
  cases: (scale) => {
    const asked = scale.isShort ? 3_500 : 130_000;
    const ports = rangeText(scale.natPorts);
    const chains = POOL.map(
      (address, index) =>
        `chain pool${index} {\n    ip protocol tcp snat to ${address}${toPorts(scale)}\n  }`,
    ).join('\n  ');
    const jumps = POOL.map((_, index) => `${index} : goto pool${index}`).join(', ');
    return [
      {
        label: null,
        hosts: {
          client: wanClient(3),
          router: router(
            natRules(
              [`tcp dport 8000 dnat to ${SERVER}:8000`],
              [`numgen inc mod 3 vmap { ${jumps} }`],
              chains,
            ),
            { lan: POOL.map((address) => `${address}/24`) },
          ),
          server: lanServer(),
        },
        parts: [{ kind: 'serve', host: 'server', mode: 'whoami', port: 8000 }],
        servers: ['server'],
        serverPorts: [8000],
        asked,
        run: ['--target', `${PUBLIC}:8000`, '--probe', 'whoami'],
        agents: [],
        plan: { args: ['--via', 'snat:3', '--via-ports', ports], hosts: 1 },
        expected: { held: asked, sources: 3, addresses: POOL, whoRanOut: null },
        path: {
          args: scale.isShort ? ['--via-ports', ports] : [],
          says: scale.isShort
            ? /^everything arrives from 3 addresses .*: 4,500 connections at most/
            : /^everything arrives from 3 addresses .*: 193,536 connections at most/,
        },
      },
    ];
  },
  en: {
    title: 'a pool of NAT addresses',
    question: 'Does a NAT pool, as on routers of Cisco or Juniper, lift the ceiling?',
    explanation:
      'Yes, in proportion. Each address of the pool brings its own 64,512 ports towards the server: 3 x 64,512 = 193,536 ' +
      'tuples, more than was asked for. Here the router takes the addresses in turn; a plain address range in the ' +
      'rule (`snat to a-b`) chooses by a hash of the client’s address instead, which with few clients may be uneven.',
    lift: 'One more address for each further 64,512 connections: divide and round up.',
  },
  zh: {
    title: 'NAT 地址池',
    question: '像思科或 Juniper 路由器那样配置 NAT 地址池，能突破上限吗？',
    explanation:
      '能，而且成正比。池里每个地址面向服务器都有自己的 64,512 个端口：3 x 64,512 = 193,536 个四元组，多于所需。' +
      '这里路由器轮流使用各地址；如果规则里直接写地址范围（`snat to a-b`），内核按客户端地址的哈希来选，客户端很少时可能不均匀。',
    lift: '每多 64,512 个连接就再加一个地址：相除后向上取整。',
  },
};
