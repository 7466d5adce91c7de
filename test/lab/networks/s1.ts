/** S1: the LAN of the question. Owns its description, must never start anything. */
import type { HostSpec } from '../../support/network.ts';
import type { LabNetwork } from '../description.ts';
import { ACCEPTING, SERVER } from '../hosts.ts';

const CLIENTS = [1, 2, 3, 4, 5];

export const s1: LabNetwork = {
  name: 'S1',
  drawing: `
           ┌──────┐
           │switch│
           └───┬──┘
    ┌──────────┴───────┬─────────┬─────────────┐
┌───┴──┐           ┌───┴───┐ ┌───┴───┐     ┌───┴───┐
│Server│           │Client1│ │Client2│ ... │Client5│
└──────┘           └───────┘ └───────┘     └───────┘
192.168.0.101   192.168.0.2 192.168.0.3   192.168.0.6`,
  cases: (scale) => {
    const each = scale.isShort ? 200 : 20_000;
    const clients = CLIENTS.map((n): [string, HostSpec] => [
      `client${n}`,
      { on: { lan: [`192.168.0.${n + 1}/24`] } },
    ]);
    return [
      {
        label: null,
        hosts: {
          ...Object.fromEntries(clients),
          server: { on: { lan: [`${SERVER}/24`] }, sysctls: ACCEPTING },
        },
        parts: [{ kind: 'serve', host: 'server', mode: 'hold', port: 8000 }],
        servers: ['server'],
        serverPorts: [8000],
        asked: 5 * each,
        run: ['--target', `${SERVER}:8000`],
        agents: clients.map(([name]) => name),
        plan: { args: ['--via', 'direct'], hosts: 5 },
        expected: {
          held: 5 * each,
          sources: 5,
          addresses: CLIENTS.map((n) => `192.168.0.${n + 1}`),
          whoRanOut: null,
        },
        path: null,
      },
    ];
  },
  en: {
    title: 'five clients on the LAN',
    question: 'Five machines with 20,000 connections each, straight to the server. Does it work?',
    explanation:
      'A connection is named by source address, source port, destination address and destination port. Each client has its ' +
      'own address, and 20,000 of its 64,512 ports (1024-65535) are plenty. The server needs one port for all of them.',
    lift: 'Nothing to lift: five addresses carry up to 5 x 64,512 = 322,560 connections to this one port.',
  },
  zh: {
    title: '局域网内的五台客户端',
    question: '五台机器各开 20,000 个连接，直连服务器，能行吗？',
    explanation:
      '一个 TCP 连接由四元组（源地址、源端口、目的地址、目的端口）唯一确定。每台客户端都有自己的地址，64,512 个端口（1024-65535）里只用 ' +
      '20,000 个，绰绰有余；服务器这一侧，所有连接共用同一个端口即可。',
    lift: '无需突破：五个地址到这一个端口最多可以建立 5 x 64,512 = 322,560 个连接。',
  },
};
