/**
 * Owns small things that several cases need: command lines as they are typed, one-line servers, filters. Must never hold a
 * case.
 */

/** Arguments as they are typed; none of them holds a space. */
export function typed(line: string): string[] {
  return line.split(/\s+/).filter(Boolean);
}

/** A server in JavaScript; `onSocket` sees `socket`, `count` (accepted so far, this one included) and `server`. */
export function nodeServer(port: number, onSocket: string, address = '0.0.0.0'): string {
  return `import net from 'node:net';
let count = 0;
const server = net.createServer((socket) => { count++; socket.on('error', () => {}); ${onSocket} });
server.listen({ port: ${port}, host: '${address}', backlog: 4096 });
`;
}

/** One chain with one rule. */
export function filterRule(hook: 'input' | 'output' | 'forward', rule: string): string {
  return `table ip cases {
  chain ${hook} {
    type filter hook ${hook} priority 0;
    ${rule}
  }
}`;
}

/**
 * Lets the kernel count connections for a limit, in a set when `per` names something.
 * @param verdict what becomes of those above it
 */
export function countLimit(
  hook: 'input' | 'forward' | 'output',
  port: number,
  limit: number,
  per: 'source' | 'all',
  verdict = 'drop',
): string {
  const over = per === 'source' ? `add @m { ip saddr ct count over ${limit} }` : `ct count over ${limit}`;
  return `table ip cases {
  set m {
    type ipv4_addr;
    size 1024;
    flags dynamic;
  }
  chain ${hook} {
    type filter hook ${hook} priority 0;
    tcp dport ${port} ct state new ${over} ${verdict}
  }
}`;
}
