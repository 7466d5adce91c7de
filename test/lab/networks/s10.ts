/** S10: other systems, other ephemeral ranges. Owns its description, must never start anything. */
import type { PortRange } from '../../../src/base/tuple-space.ts';
import type { LabNetwork, Scale } from '../description.ts';
import {
  ACCEPTING,
  lanServer,
  natRules,
  PATIENT,
  PUBLIC,
  ROUTER,
  rangeText,
  router,
  SERVER,
  wanClient,
} from '../hosts.ts';

/** The range of IANA, as Windows and the BSDs use it; shrunk to 1,500 ports. */
function iana(scale: Scale): PortRange {
  return scale.isShort ? { from: 60_000, to: 61_499 } : { from: 49_152, to: 65_535 };
}

export const s10: LabNetwork = {
  name: 'S10',
  drawing: `
   one WAN client 1.2.3.11, whose system          one WAN client 1.2.3.11
   gives programs the ports 49152-65535                      │
               │                                         ┌───┴──┐ masquerades with the
           ┌───┴──┐                                      │Router│ ports 49152-65535
           │Server│ 1.2.3.4:8000                         └───┬──┘
           └──────┘                                      ┌───┴──┐
                                                         │Server│
                                                         └──────┘`,
  cases: (scale) => {
    const ports = rangeText(iana(scale));
    const direct = scale.isShort ? 1_700 : 60_000;
    const asked = scale.isShort ? 1_700 : 20_000;
    const ceiling = iana(scale).to - iana(scale).from + 1;
    return [
      {
        label: { en: `the client's system: ${ports}`, zh: `客户端系统：${ports}` },
        hosts: {
          client: wanClient(1, { sysctls: { 'net.ipv4.ip_local_port_range': ports.replace('-', ' ') } }),
          server: { on: { wan: [`${PUBLIC}/24`] }, sysctls: ACCEPTING },
        },
        parts: [{ kind: 'serve', host: 'server', mode: 'hold', port: 8000 }],
        servers: ['server'],
        serverPorts: [8000],
        asked: direct,
        run: ['--target', `${PUBLIC}:8000`],
        agents: [],
        plan: { args: ['--via', 'direct', '--via-ports', ports], hosts: 1 },
        expected: { held: direct, sources: 1, addresses: ['1.2.3.11'], whoRanOut: null },
        path: null,
      },
      {
        label: { en: `the router's NAT: ${ports}`, zh: `路由器的 NAT：${ports}` },
        hosts: {
          client: wanClient(1),
          router: router(
            natRules([`tcp dport 8000 dnat to ${SERVER}:8000`], [`ip protocol tcp masquerade to :${ports}`]),
          ),
          server: lanServer(),
        },
        parts: [{ kind: 'serve', host: 'server', mode: 'whoami', port: 8000 }],
        servers: ['server'],
        serverPorts: [8000],
        asked,
        run: ['--target', `${PUBLIC}:8000`, '--probe', 'whoami', ...PATIENT],
        agents: [],
        plan: { args: ['--via', 'masquerade:1', '--via-ports', ports], hosts: 1 },
        expected: { held: ceiling, sources: 1, addresses: [ROUTER], whoRanOut: 'path' },
        path: null,
      },
    ];
  },
  en: {
    title: 'systems differ in their port ranges',
    question: 'Ephemeral ranges go from 49152-65535 to 1024-65535, depending on the system. What follows?',
    explanation:
      'The range of a *client* bounds programs that let the system choose. This tool names every source port itself, so the ' +
      'system’s range does not bound it. The range of a *rewriting hop* bounds every client behind it: 49152-65535 is 16,384 ports, ' +
      'and that is the ceiling for each address and destination. `plan --via-ports` takes the range as input.',
    lift: 'Widen the range of the hop to 1024-65535, or multiply it as in S4, S5 and S6.',
  },
  zh: {
    title: '各系统的端口范围不同',
    question: '临时端口范围因系统而异，从 49152-65535 到 1024-65535。这意味着什么？',
    explanation:
      '**客户端**的范围只限制那些让系统来选端口的程序。本工具自己指定每一个源端口，所以不受系统范围的限制。**改写源地址的那一跳**的范围则限制它后面的所有客户端：' +
      '49152-65535 共 16,384 个端口，这就是每个地址对每个目的端点的上限。`plan --via-ports` 以这个范围为输入。',
    lift: '把那一跳的范围放宽到 1024-65535，或者像 S4、S5、S6 那样成倍增加。',
  },
};
