/**
 * Owns the words of the help: commands, examples, exit codes.
 * Must never list a flag (flags.ts).
 */
import type { CommandName } from '../api/flags/flag.ts';

interface Command {
  readonly command: CommandName;
  /** positional words, in the parser's notation */
  readonly words: string;
  readonly describe: string;
  readonly epilogue: string;
}

/** Every command, in the order of the help. */
export const COMMANDS: readonly Command[] = [
  {
    command: 'run',
    words: '',
    describe: 'Open, hold and prove TCP connections, and say what ran out',
    epilogue:
      'Counts take k, m and _ (130k, 1m, 130_000), rates /s (5k/s), durations ms, s, m, h (1h30m; a plain ' +
      'number is seconds). Each flag may come from the environment: C100K_CONNS for --conns, C100K_NO_PROGRESS ' +
      'for --no-progress.\nThe first Ctrl-C stops opening, drains and reports; the second exits at once.',
  },
  {
    command: 'plan',
    words: '',
    describe: 'Show what a run would take and what is missing; opens nothing',
    epilogue: '',
  },
  {
    command: 'path',
    words: '',
    describe: 'Say what the way to a whoami target does to addresses, ports and idle connections',
    epilogue:
      'The target is c100k-bench serve --mode whoami (with --find-idle-timeout: --mode echo), started where the server ' +
      'is. Exit code 0: the path was seen; 1: the target told nothing.',
  },
  {
    command: 'serve',
    words: '',
    describe: 'The built-in target',
    epilogue: 'SIGUSR2 prints the counts; Ctrl-C ends it and prints them too.',
  },
  {
    command: 'agent',
    words: '',
    describe: 'One host of a run; a run starts its own local agent',
    epilogue: '',
  },
  {
    command: 'token',
    words: '',
    describe: 'Make a token for one agent, with a name, an expiry and allowed targets',
    epilogue: '',
  },
  {
    command: 'k8s',
    words: '',
    describe: 'Print Kubernetes manifests of a run with its agents',
    epilogue:
      'Flags of a run go to the coordinator, flags of a host (sources, limits) to each agent; $(JOB_COMPLETION_INDEX) in ' +
      'one of these is the number of the agent, from 0. The Secret that is printed holds the token.',
  },
  {
    command: 'cleanup',
    words: '',
    describe: 'Remove the source addresses that a crashed run left on this host',
    epilogue: 'An address that is not ours, or that a living run uses, is never touched.',
  },
  {
    command: 'completion',
    words: '<shell>',
    describe: 'Print a completion script for bash or zsh',
    epilogue: '',
  },
];

interface Positional {
  readonly name: string;
  readonly describe: string;
  readonly choices: readonly string[];
}

/** The positional words of each command that has some. */
export const POSITIONALS: Readonly<Partial<Record<CommandName, readonly Positional[]>>> = {
  completion: [{ name: 'shell', describe: 'the shell', choices: ['bash', 'zsh'] }],
};

/** Lines to type after the name of the tool, with what they do. */
export const EXAMPLES: Readonly<Partial<Record<CommandName, readonly (readonly [string, string])[]>>> = {
  run: [
    ['--target self --conns 130k', 'try it against the built-in target'],
    ['-t 192.168.0.10:8000 -c 20k -d 60s', 'hold 20,000 connections for a minute'],
    ['-t 10.0.0.1:8000-8080 -c 130k -r 5k/s', '81 endpoints, 5,000 connects a second'],
    [
      '-t 10.0.0.1:8000 -c 130k --source-ip 10.0.0.102-10.0.0.105 --alias-dev auto',
      'add four addresses, which no other host has, for the run',
    ],
    ['-t echo://10.0.0.1:7 -c 10k --json r.json', 'prove each connection by echo'],
    ['-t ws://10.0.0.1:8080/chat -c 20k', 'WebSocket, proven by pings'],
  ],
  plan: [
    ['plan -t 192.168.0.10:8000 -c 130k', 'what is missing on this host?'],
    ['plan -t 1.2.3.4:8000 -c 130k --via dnat --via haproxy:1x1', 'and on the way?'],
  ],
  path: [
    ['path -t 1.2.3.4:8000', 'does the router translate?'],
    ['path -t echo://1.2.3.4:8000 --find-idle-timeout', 'when does it forget?'],
  ],
  serve: [['serve --port 8000 --mode echo', 'a target that answers']],
  agent: [['agent --join 10.0.0.1:7100 --token-file run.token', 'as the coordinator prints it']],
  token: [['token --token-file run.token --name host7 --expires 24h > host7.token', 'one host, one day']],
  cleanup: [['cleanup --dry-run', 'what did a crash leave?']],
  k8s: [
    [
      'k8s -t my-server:8000 -c 100k --expect-agents 5 --image registry.example/c100k-bench:1 | kubectl apply -f -',
      'five agents in a cluster',
    ],
  ],
  completion: [
    ['completion bash > ~/.local/share/bash-completion/completions/c100k-bench', 'bash'],
    ['completion zsh > ~/.zfunc/_c100k-bench', 'zsh, with ~/.zfunc in $fpath'],
  ],
};

/** The exit codes, as the help tells them. */
export const EXIT_CODE_HELP = [
  'Exit codes:',
  '    0  held as required',
  '    1  the target or the path did not hold',
  '    2  wrong usage',
  '    3  refused before the start: limits, ports, privileges',
  '    4  incomplete: the generator fell short',
  '    5  a report could not be written',
  '   70  a bug in c100k-bench',
  '  130  interrupted (143: terminated); the report is still written',
].join('\n');
