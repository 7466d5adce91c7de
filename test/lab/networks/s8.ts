/** S8: HAProxy with addresses added. Owns its description, must never start anything. */
import { addressRange } from '../../../src/base/address.ts';
import type { LabNetwork } from '../description.ts';
import { HAPROXY, PUBLIC, rangeText, SERVER } from '../hosts.ts';
import { haproxyHosts } from './haproxy-hosts.ts';

export const s8: LabNetwork = {
  name: 'S8',
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
  192.168.0.102, .103, .104 as sources towards the server`,
  cases: (scale) => {
    const asked = scale.isShort ? 3_500 : 130_000;
    const ports = rangeText(scale.natPorts);
    const addresses = addressRange(HAPROXY, 3);
    return [
      {
        label: null,
        hosts: haproxyHosts(scale, 3),
        parts: [
          { kind: 'serve', host: 'server', mode: 'whoami', port: 8000 },
          {
            kind: 'haproxy',
            host: 'haproxy',
            port: 80,
            server: `${SERVER}:8000`,
            addresses,
            ports: scale.natPorts,
          },
        ],
        servers: ['server'],
        serverPorts: [8000],
        asked,
        run: ['--target', `${PUBLIC}:8000`, '--probe', 'whoami'],
        agents: [],
        plan: { args: ['--via', 'dnat', '--via', 'haproxy:3x1', '--via-ports', ports], hosts: 1 },
        expected: { held: asked, sources: 3, addresses, whoRanOut: null },
        path: {
          args: ['--via-ports', ports],
          says: scale.isShort
            ? /^everything arrives from 3 addresses .*: 4,500 connections at most/
            : /^everything arrives from 3 addresses .*: 193,536 connections at most/,
        },
      },
    ];
  },
  en: {
    title: 'HAProxy with addresses added',
    question: 'With `ip addr add 192.168.0.103/24 dev eth0` and one more: do 130,000 pass?',
    explanation:
      'Yes: 3 addresses x 64,512 ports = 193,536. Adding the addresses is half of it: HAProxy uses them only when it is configured to, ' +
      'and a `source` setting takes one address, so there is one `server` line for each. Each connection takes two of ' +
      'HAProxy’s descriptors; where a process has 20,000, fourteen processes share the port, each with a slice of the ports of ' +
      'its own.',
    lift: 'One more address and one more `server` line for each further 64,512 connections; `plan --via haproxy:1x1` prints them.',
  },
  zh: {
    title: '增加了地址的 HAProxy',
    question: '执行 `ip addr add 192.168.0.103/24 dev eth0`，再加一个地址之后，130,000 个连接能通过吗？',
    explanation:
      '能：3 个地址 x 64,512 个端口 = 193,536。只加地址还不够：要明确告诉 HAProxy 使用它们；一条 `source` 设置只能写一个地址，' +
      '所以每个地址要有一行 `server`。每个连接占用 HAProxy 两个文件描述符；如果每个进程只有 20,000 个描述符，就需要十四个进程共享同一个端口，' +
      '各用各的一段源端口。',
    lift: '每多 64,512 个连接，再加一个地址和一行 `server`；`plan --via haproxy:1x1` 会打印出这些行。',
  },
};
