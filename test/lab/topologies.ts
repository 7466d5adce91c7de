/**
 * Owns docs/TOPOLOGIES.md and its Chinese version: the networks' words around the figures of a run.
 * Must never hold a figure of its own.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { formatBytes, formatCount } from '../../src/base/units.ts';
import { repositoryRoot } from '../support/run-cli.ts';
import { findProgram } from '../support/targets.ts';
import { FULL, type LabNetwork } from './description.ts';
import { NETWORKS } from './networks/all.ts';
import { type CaseResult, commandsOf } from './runner.ts';

/** The words of one language around the networks' own. */
interface Language {
  readonly file: string;
  readonly prose: 'en' | 'zh';
  readonly other: string;
  readonly intro: (machine: string) => string;
  readonly machine: (text: string) => string;
  readonly commands: (text: string) => string;
  /** what ends a bold word at the beginning of a paragraph, and what joins two parts of a title */
  readonly wordEnd: string;
  readonly joint: string;
  readonly comma: string;
  readonly question: string;
  readonly command: string;
  readonly measured: string;
  readonly why: string;
  readonly lift: string;
  readonly heads: readonly string[];
  readonly noPath: string;
  readonly pathSays: (seconds: string) => string;
  readonly rows: Readonly<Record<RowName, string>>;
  readonly addresses: (count: number, names: readonly string[]) => string;
  /** where the measured words of a cell stand beside each other */
  readonly split: (parts: readonly string[]) => string;
  readonly summary: string;
}

type RowName = 'asked' | 'server' | 'sources' | 'report' | 'plan' | 'router' | 'verdict';
const ROW_NAMES: readonly RowName[] = ['asked', 'server', 'sources', 'report', 'plan', 'router', 'verdict'];

const ENGLISH: Language = {
  file: join('docs', 'TOPOLOGIES.md'),
  prose: 'en',
  other: '[中文版](TOPOLOGIES.zh-CN.md)',
  intro: (machine) => `# Topologies

Does a port-forwarding router, a NAT or HAProxy cap a server at 65,535 connections, and what can be done? Here each network of
that question is built from real parts and measured: network namespaces joined by veth pairs, nftables as the router,
HAProxy, nginx, dnsmasq, and c100k-bench as client and as server. Every figure below was written by

\`\`\`sh
npm run lab -- all --write      # needs root, haproxy, nginx, nftables, dnsmasq-base; one network: npm run lab -- S3
\`\`\`

on ${machine}. "On the server" is what \`ss\` counts in the server's namespace while the run holds;
"tracked by the router" is its kernel's number of conntrack entries; "plan" is what \`c100k-bench plan --via\` said beforehand.
The lab fails when plan and measurement differ by more than 1 %, when the client's report and the server differ at all, or when the
verdict names another party.

**The rule behind all of it.** A connection is a 4-tuple: source address, source port, destination address, destination port. Whoever
opens a connection, or rewrites its source, needs a free tuple of its own: *addresses x ports x destinations*. One address has the
ports 1024-65535, 64,512 of them, for each destination. Whoever forwards without touching the source needs none.`,
  machine: (text) => text,
  commands: (text) => text,
  wordEnd: '.',
  joint: ': ',
  comma: ', ',
  question: 'Question',
  command: 'Commands',
  measured: 'Measured',
  why: 'Why',
  lift: 'How to lift it',
  heads: ['', 'value'],
  noPath: '-',
  pathSays: (seconds) => `\`c100k-bench path\` says after ${seconds} s:`,
  rows: {
    asked: 'asked',
    server: 'on the server',
    sources: 'from',
    report: "held by the client's report",
    plan: 'plan',
    router: 'tracked by the router',
    verdict: 'verdict',
  },
  addresses: (count, names) => `${count} ${count === 1 ? 'address' : 'addresses'}: ${names.join(', ')}`,
  split: (parts) => ` (${parts.join(', ')})`,
  summary: 'In one table',
};

const CHINESE: Language = {
  file: join('docs', 'TOPOLOGIES.zh-CN.md'),
  prose: 'zh',
  other: '[English](TOPOLOGIES.md)',
  intro: (machine) => `# 组网实测

端口转发路由器、NAT 或 HAProxy 会不会把服务器限制在 65,535 个连接？该怎么办？这里把问题里的每一种网络都用真实组件搭建出来并实测：网络命名空间用 veth
连接，nftables 充当路由器，还有 HAProxy、nginx、dnsmasq，以及同时作为客户端和服务器的 c100k-bench。下面的每个数字都由这条命令写入：

\`\`\`sh
npm run lab -- all --write      # 需要 root、haproxy、nginx、nftables、dnsmasq-base；只测一种网络：npm run lab -- S3
\`\`\`

测试机：${machine}。“服务器上”是保持阶段用 \`ss\` 在服务器命名空间里数出的连接数；“路由器跟踪”是路由器内核的 conntrack 条目数；
“plan”是 \`c100k-bench plan --via\` 事先的预测。如果预测与实测相差超过 1 %，或者客户端报告与服务器的数字不一致，或者判定指错了对象，实验就算失败。

**背后只有一条规则。** 连接就是一个四元组：源地址、源端口、目的地址、目的端口。谁发起连接，或者改写了连接的源地址，谁就需要一个属于自己的空闲四元组：
*地址数 x 端口数 x 目的端点数*。一个地址有 1024-65535 共 64,512 个端口，对每个目的端点分别计算。转发时不动源地址的设备，一个也不需要。`,
  machine: (text) => text.replace(' cores', ' 核').replaceAll(', ', '、'),
  commands: (text) => text.replace(/# on each of (\d+) hosts/, '# 在 $1 台压测机上分别执行'),
  wordEnd: '：',
  joint: '：',
  comma: '，',
  question: '问题',
  command: '命令',
  measured: '实测',
  why: '原因',
  lift: '如何突破上限',
  heads: ['', '数值'],
  noPath: '-',
  pathSays: (seconds) => `\`c100k-bench path\` 用 ${seconds} 秒得出：`,
  rows: {
    asked: '请求的连接数',
    server: '服务器上',
    sources: '来自',
    report: '客户端报告的保持数',
    plan: 'plan 预测',
    router: '路由器跟踪',
    verdict: '判定',
  },
  addresses: (count, names) => `${count} 个地址：${names.join('、')}`,
  split: (parts) => `（${parts.join('、')}）`,
  summary: '汇总表',
};

/** Kernel, cores, memory and the versions of the real parts. */
function machineText(): string {
  const version = (program: 'haproxy' | 'nginx', pattern: RegExp): string => {
    const { stdout, stderr } = spawnSync(findProgram(program) ?? program, ['-v'], { encoding: 'utf8' });
    return pattern.exec(`${stdout}${stderr}`)?.[1] ?? '?';
  };
  return [
    `Linux ${release().split('-')[0]}`,
    `${availableParallelism()} cores`,
    formatBytes(totalmem()),
    `HAProxy ${version('haproxy', /version ([\d.]+)/)}`,
    `nginx ${version('nginx', /nginx\/([\d.]+)/)}`,
    `Node ${process.versions.node}`,
  ].join(', ');
}

function cellsOf(result: CaseResult, language: Language): Record<RowName, string> {
  const sources = result.sources.length <= 5 ? result.sources : [`${result.sources[0]} ...`];
  const perServer = Object.entries(result.perServer);
  const split =
    perServer.length > 1
      ? language.split(perServer.map(([name, count]) => `${name} ${formatCount(count)}`))
      : '';
  return {
    asked: formatCount(result.asked),
    server: `**${formatCount(result.onServer)}**${split}`,
    sources: language.addresses(result.sources.length, sources),
    report: formatCount(result.held),
    plan: formatCount(result.predicted),
    router: result.conntrack === null ? language.noPath : formatCount(result.conntrack),
    verdict: verdictText(result, language),
  };
}

function verdictText({ verdict, whoRanOut }: CaseResult, { comma }: Language): string {
  return whoRanOut === null ? verdict : `${verdict}${comma}${whoRanOut}`;
}

function rowText(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

/** One column for each case. */
function measuredTable(results: readonly CaseResult[], language: Language): string {
  const columns = results.map((result) => cellsOf(result, language));
  const heads =
    results.length === 1
      ? language.heads
      : ['', ...results.map(({ label }) => label?.[language.prose] ?? '')];
  const rows = ROW_NAMES.map((name) => [language.rows[name], ...columns.map((cells) => cells[name])]);
  return [heads, heads.map(() => '---'), ...rows].map(rowText).join('\n');
}

function sectionOf(network: LabNetwork, results: readonly CaseResult[], language: Language): string {
  const prose = network[language.prose];
  const commands = [...new Set(network.cases(FULL).flatMap(commandsOf))];
  const sentences = results.flatMap(({ pathSentence, pathSeconds }) =>
    pathSentence === null ? [] : [`${language.pathSays((pathSeconds ?? 0).toFixed(1))}\n> ${pathSentence}`],
  );
  return [
    `## ${network.name}${language.joint}${prose.title}`,
    `\`\`\`\n${network.drawing.replace(/^\n/, '')}\n\`\`\``,
    `**${language.question}${language.wordEnd}** ${prose.question}`,
    `**${language.command}${language.wordEnd}**`,
    `\`\`\`sh\n${language.commands(commands.join('\n'))}\n\`\`\``,
    `**${language.measured}${language.wordEnd}**`,
    measuredTable(results, language),
    ...sentences,
    `**${language.why}${language.wordEnd}** ${prose.explanation}`,
    `**${language.lift}${language.wordEnd}** ${prose.lift}`,
  ].join('\n\n');
}

function summaryTable(results: readonly CaseResult[], language: Language): string {
  const { rows } = language;
  const heads = ['', '', rows.asked, rows.server, rows.plan, rows.verdict];
  const body = results.map((result) => {
    const network = NETWORKS.find(({ name }) => name === result.network)!;
    const title = network[language.prose].title;
    const label = result.label === null ? title : `${title}${language.joint}${result.label[language.prose]}`;
    const cells = cellsOf(result, language);
    return [result.network, label, cells.asked, cells.server, cells.plan, cells.verdict];
  });
  return [heads, heads.map(() => '---'), ...body].map(rowText).join('\n');
}

function documentText({ machine, results }: Figures, language: Language): string {
  const sections = NETWORKS.map((network) =>
    sectionOf(
      network,
      results.filter((result) => result.network === network.name),
      language,
    ),
  );
  const summary = `## ${language.summary}\n\n${summaryTable(results, language)}`;
  return `${[language.intro(language.machine(machine)), language.other, summary, ...sections].join('\n\n')}\n`;
}

/** Where the figures are kept, so that one network can be measured again without the others. */
const FIGURES_FILE = join('docs', 'topologies.json');

/** What the documents are made of, beside the words. */
export interface Figures {
  /** kernel, cores, memory and versions of the last measurement */
  readonly machine: string;
  readonly results: readonly CaseResult[];
}

/** The figures of the last full measurements; none where nothing was measured yet. */
export function readFigures(): Figures {
  const path = join(repositoryRoot, FIGURES_FILE);
  return existsSync(path)
    ? (JSON.parse(readFileSync(path, 'utf8')) as Figures)
    : { machine: '', results: [] };
}

/**
 * Both documents.
 * @param figures of every network
 * @returns paths in the repository and texts
 */
export function documentsOf(figures: Figures): { readonly file: string; readonly text: string }[] {
  return [ENGLISH, CHINESE].map((language) => ({
    file: language.file,
    text: documentText(figures, language),
  }));
}

function write(file: string, text: string): string {
  writeFileSync(join(repositoryRoot, file), text);
  return file;
}

/**
 * Keeps the figures, and writes both documents once every network has been measured.
 * @param measured of whole networks, in full; they replace what was kept of these networks
 * @returns the paths that were written
 */
export function writeTopologies(measured: readonly CaseResult[]): string[] {
  const names = new Set(measured.map(({ network }) => network));
  const before = readFigures();
  const all = [...before.results.filter(({ network }) => !names.has(network)), ...measured];
  const figures: Figures = {
    machine: measured.length > 0 ? machineText() : before.machine,
    results: NETWORKS.flatMap(({ name }) => all.filter(({ network }) => network === name)),
  };
  const isWhole = NETWORKS.every(({ name }) => figures.results.some(({ network }) => network === name));
  const written = [write(FIGURES_FILE, `${JSON.stringify(figures, null, 2)}\n`)];
  return isWhole ? [...written, ...documentsOf(figures).map(({ file, text }) => write(file, text))] : written;
}
