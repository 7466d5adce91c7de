/** S7: HAProxy with one source address. Owns its description, must never start anything. */
import type { LabCase, LabNetwork, Scale } from '../description.ts';
import { HAPROXY, PUBLIC, rangeText, SERVER } from '../hosts.ts';
import { haproxyHosts } from './haproxy-hosts.ts';

function oneSource(scale: Scale, isWide: boolean): LabCase {
  const asked = scale.isShort ? 1_700 : 70_000;
  const range = isWide ? scale.natPorts : scale.kernelPorts;
  const held = range.to - range.from + 1;
  const ports = rangeText(range);
  return {
    label: isWide
      ? { en: `ports ${ports}`, zh: `端口 ${ports}` }
      : { en: `default range ${ports}`, zh: `默认范围 ${ports}` },
    hosts: haproxyHosts(scale, 1),
    parts: [
      { kind: 'serve', host: 'server', mode: 'whoami', port: 8000 },
      {
        kind: 'haproxy',
        host: 'haproxy',
        port: 80,
        server: `${SERVER}:8000`,
        addresses: [HAPROXY],
        ports: isWide ? scale.natPorts : null,
      },
    ],
    servers: ['server'],
    serverPorts: [8000],
    asked,
    // In a range that is nearly full the kernel searches long for each port.
    run: [
      '--target',
      `${PUBLIC}:8000`,
      '--probe',
      'whoami',
      '--max-pending',
      isWide ? '8000' : '2000',
      '--connect-timeout',
      isWide ? '20s' : '60s',
    ],
    agents: [],
    plan: { args: ['--via', 'dnat', '--via', 'haproxy:1x1', '--via-ports', ports], hosts: 1 },
    expected: { held, sources: 1, addresses: [HAPROXY], whoRanOut: 'path' },
    path: {
      args: scale.isShort || isWide ? ['--via-ports', ports] : [],
      says: new RegExp(
        `^everything arrives from 192\\.168\\.0\\.102: ${held.toLocaleString('en-US')} connections at most`,
      ),
    },
  };
}

export const s7: LabNetwork = {
  name: 'S7',
  drawing: `
   WAN clients 1.2.3.11, .12, .13
               │
               │ 1.2.3.4:8000
           ┌───┴──┐
           │Router│  DNAT to 192.168.0.102:80
           └───┬──┘
        ┌──────┴───────┐
    ┌───┴───┐      ┌───┴──┐
    │HAProxy├─────▶│Server│  192.168.0.101:8000
    └───────┘      └──────┘
  192.168.0.102, the only source towards the server`,
  cases: (scale) => [oneSource(scale, false), oneSource(scale, true)],
  en: {
    title: 'HAProxy with one address',
    question: 'Does HAProxy behind the router help? Or is it one to one, and the problem stays?',
    explanation:
      'The suspicion is right. HAProxy accepts any number of clients (the router’s forwarding sets no ceiling, S2), but it ' +
      'opens a connection of its *own* to the server for each, from its own address. Without a port range the kernel takes ' +
      'ports from 32768-60999: 28,232. With `source 192.168.0.102:1024-65535` all 64,512 are used, and that is the ceiling of ' +
      'one address. Clients beyond it are accepted by HAProxy and closed again. The router tracks the ' +
      'clients’ connections to HAProxy, those that were just closed included, so its number is not the server’s.',
    lift: 'Give HAProxy more source addresses (S8), or more server endpoints: each address has its 64,512 ports towards each of them.',
  },
  zh: {
    title: '单个地址的 HAProxy',
    question: '在路由器后面放 HAProxy 有用吗？还是说一比一，问题依旧？',
    explanation:
      '怀疑是对的。HAProxy 能接受任意多的客户端（路由器的转发没有上限，见 S2），但它要为每个客户端用**自己的**地址向服务器再开一个连接。' +
      '不指定端口范围时，内核从 32768-60999 里取端口：28,232 个。写上 `source 192.168.0.102:1024-65535` 就能用满 64,512 个，这就是一个地址的上限。' +
      '超出的客户端会先被 HAProxy 接受，随后被关闭。' +
      '路由器跟踪的是客户端到 HAProxy 的连接（包括刚被关闭的），所以它的数字与服务器上的不同。',
    lift: '给 HAProxy 更多源地址（S8），或者更多服务器端点：每个地址面向每个端点都有 64,512 个端口。',
  },
};
