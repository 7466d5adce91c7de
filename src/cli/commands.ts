/**
 * Owns the table of commands: what each is for, its words, its examples and its exit codes. Must never hold a flag (api/flags/).
 */
import type { CommandName } from '../api/flags/flag.ts';
import { ExitCode } from '../base/errors.ts';

interface Command {
  readonly command: CommandName;
  /** positional words, in the parser's notation */
  readonly words: string;
  readonly describe: string;
  readonly epilogue: string;
  /** the exit codes that it ends with, and what they mean of it */
  readonly exits: readonly Exit[];
}

interface Exit {
  readonly code: ExitCode;
  readonly meaning: string;
}

/** What ends any command, whatever it does. */
const WRONG_USAGE: Exit = { code: ExitCode.usage, meaning: 'wrong usage' };
const REFUSED: Exit = {
  code: ExitCode.refused,
  meaning: 'refused before the start: limits, ports, privileges',
};
const UNWRITTEN: Exit = { code: ExitCode.reportUnwritten, meaning: 'the result could not be written' };
const BUG: Exit = { code: ExitCode.bug, meaning: 'a bug in c100k-bench' };
const INTERRUPTED: Exit = { code: ExitCode.interrupted, meaning: 'interrupted (Ctrl-C)' };
const TERMINATED: Exit = { code: ExitCode.terminated, meaning: 'terminated (SIGTERM)' };

/** Of a command that makes a text and opens nothing. */
function exitsOfPrinting(done: string, ...more: readonly Exit[]): readonly Exit[] {
  return [{ code: ExitCode.held, meaning: done }, ...more, WRONG_USAGE, UNWRITTEN, BUG].toSorted(
    (a, b) => a.code - b.code,
  );
}

/** Every command, in the order of the help. */
export const COMMANDS: readonly Command[] = [
  {
    command: 'run',
    words: '[files..]',
    describe: 'Open, hold and prove TCP connections, and say what ran out',
    epilogue:
      'Counts take k, m and _ (130k, 1m, 130_000), rates /s (5k/s), durations ms, s, m, h (1h30m; a plain ' +
      'number is seconds). Each flag may come from the environment: C100K_CONNS for --conns, C100K_NO_PROGRESS ' +
      'for --no-progress. c100k-bench run FILE reads flags from a YAML file too (c100k-bench help run-file).\nThe first Ctrl-C stops opening, drains and reports; the second exits at once.',
    exits: [
      { code: ExitCode.held, meaning: 'held as required' },
      { code: ExitCode.notHeld, meaning: 'the target or the path did not hold' },
      WRONG_USAGE,
      REFUSED,
      { code: ExitCode.incomplete, meaning: 'incomplete: the generator fell short' },
      { code: ExitCode.reportUnwritten, meaning: 'a report could not be written' },
      BUG,
      { code: ExitCode.interrupted, meaning: 'interrupted (Ctrl-C); the report is still written' },
      { code: ExitCode.terminated, meaning: 'terminated (SIGTERM); the report is still written' },
    ],
  },
  {
    command: 'plan',
    words: '',
    describe: 'Show what a run would take and what is missing; opens nothing',
    epilogue: '',
    exits: exitsOfPrinting(
      'the run would start',
      { code: ExitCode.notHeld, meaning: 'the run would start, but the path would not carry it' },
      REFUSED,
    ),
  },
  {
    command: 'path',
    words: '',
    describe: 'Say what the way to a whoami target does to addresses, ports and idle connections',
    epilogue:
      'The target is c100k-bench serve --mode whoami (with --find-idle-timeout: --mode echo), started where the server ' +
      'is. Exit code 0: the path was seen; 1: the target reported nothing.',
    exits: exitsOfPrinting(
      'the path was seen',
      { code: ExitCode.notHeld, meaning: 'the target reported nothing' },
      REFUSED,
    ),
  },
  {
    command: 'serve',
    words: '',
    describe: 'The built-in target',
    epilogue: 'SIGUSR2 prints the counts; Ctrl-C ends it and prints them too.',
    exits: [
      WRONG_USAGE,
      REFUSED,
      { code: ExitCode.incomplete, meaning: 'lost what it needs: its parent, or its workers' },
      BUG,
      INTERRUPTED,
      TERMINATED,
    ],
  },
  {
    command: 'agent',
    words: '',
    describe: 'One host of a run; a run starts its own local agent',
    epilogue: '',
    exits: [
      { code: ExitCode.held, meaning: 'its share of the run was done' },
      WRONG_USAGE,
      REFUSED,
      { code: ExitCode.incomplete, meaning: 'the coordinator does not take it, or is lost' },
      { code: ExitCode.reportUnwritten, meaning: 'the partial report could not be written' },
      BUG,
      INTERRUPTED,
      TERMINATED,
    ],
  },
  {
    command: 'token',
    words: '',
    describe: 'Make a token for one agent, with a name, an expiry and allowed targets',
    epilogue: '',
    exits: exitsOfPrinting('the token was printed'),
  },
  {
    command: 'k8s',
    words: '',
    describe: 'Print Kubernetes manifests of a run with its agents',
    epilogue:
      'Flags of a run go to the coordinator, flags of a host (sources, limits) to each agent; $(JOB_COMPLETION_INDEX) in ' +
      'one of these is the number of the agent, from 0. The Secret that is printed holds the token.',
    exits: exitsOfPrinting('the manifests were printed'),
  },
  {
    command: 'report',
    words: '[file]',
    describe: 'Make a page or the text from the JSON report of a run',
    epilogue: '',
    exits: exitsOfPrinting('the report was read, whatever it says of its run'),
  },
  {
    command: 'compare',
    words: '[files..]',
    describe: 'Say what changed between runs, and whether it is beyond noise',
    epilogue: '',
    exits: exitsOfPrinting('nothing that --fail-on names became worse', {
      code: ExitCode.notHeld,
      meaning: 'a metric that --fail-on names became worse',
    }),
  },
  {
    command: 'cleanup',
    words: '',
    describe: 'Remove the source addresses that a crashed run left on this host',
    epilogue: 'An address that is not ours, or that a living run uses, is never touched.',
    exits: exitsOfPrinting('nothing of a crashed run is left', {
      code: ExitCode.refused,
      meaning: 'without the right to remove addresses',
    }),
  },
  {
    command: 'completion',
    words: '<shell>',
    describe: 'Print a completion script for bash, zsh or fish',
    epilogue: '',
    exits: exitsOfPrinting('the script was printed'),
  },
  {
    command: 'init',
    words: '[files..]',
    describe: 'Write a run file to begin with, every flag in it with what it means',
    epilogue:
      'Without a name it writes c100k-bench.yaml; - prints it. A file that is there is not written over without --force.',
    exits: exitsOfPrinting('the file was written'),
  },
  {
    command: 'help',
    words: '[topic]',
    describe: 'Explain a command or a topic, or show every flag',
    epilogue: '',
    exits: exitsOfPrinting('the help was printed'),
  },
];

interface Positional {
  readonly name: string;
  readonly describe: string;
  readonly choices: readonly string[];
  readonly isFile: boolean;
}

/** The positional words of each command that has some. */
export const POSITIONALS: Readonly<Partial<Record<CommandName, readonly Positional[]>>> = {
  run: [{ name: 'files', describe: 'a run file in YAML, behind the word run', choices: [], isFile: true }],
  init: [{ name: 'files', describe: 'the run file to write', choices: [], isFile: true }],
  completion: [{ name: 'shell', describe: 'the shell', choices: ['bash', 'zsh', 'fish'], isFile: false }],
  // A word that is none of these is refused by the command itself, with the nearest.
  help: [{ name: 'topic', describe: 'a command, a topic, or all', choices: [], isFile: false }],
  report: [{ name: 'file', describe: 'a report that --json has written', choices: [], isFile: true }],
  compare: [{ name: 'files', describe: 'reports that --json has written', choices: [], isFile: true }],
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
    ['run soak.yaml --conns 10k', 'what the file says, with another number'],
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
  report: [['report run.json --html run.html', 'a page']],
  compare: [
    ['compare --label a=a1.json,a2.json --label b=b1.json,b2.json --fail-on connect_p99:10%', 'for CI'],
  ],
  init: [
    ['init soak.yaml', 'a run file with every flag'],
    ['init --schema > run-file.schema.json', 'for an editor'],
  ],
  help: [
    ['help all', 'every flag of every command'],
    ['help exit-codes', 'what an exit code means'],
  ],
  completion: [
    ['completion bash > ~/.local/share/bash-completion/completions/c100k-bench', 'bash'],
    ['completion zsh > ~/.zfunc/_c100k-bench', 'zsh, with ~/.zfunc in $fpath'],
    ['completion fish > ~/.config/fish/completions/c100k-bench.fish', 'fish'],
  ],
};
