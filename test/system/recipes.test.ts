/**
 * Owns the proof that docs/RECIPES.md does what it says: its own commands and files, read out of the page, with smaller numbers and addresses of this
 * host in place of the page's, against servers that this project did not write. A command that is added to the page without a test fails here.
 */
import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import type { RunReport } from '../../src/judge/report.ts';
import { until } from '../support/bench-run.ts';
import { makeCertificates } from '../support/certificates.ts';
import { action, ciShell, gitlabTemplate, runAction } from '../support/ci-action.ts';
import { deployHaproxyWith, deployNginx } from '../support/deployed.ts';
import { startBroker, WHY_NO_MOSQUITTO } from '../support/mosquitto.ts';
import { freePort } from '../support/net-target.ts';
import { assertPrints, Desk, placed, recipe, recipesIn } from '../support/recipes.ts';
import { cliPath, repositoryRoot } from '../support/run-cli.ts';
import { whyNot } from '../support/targets.ts';
import { startWsServer } from '../support/ws-servers.ts';

const TITLES = [
  'A soak in CI',
  'Rehearse a deploy',
  'An MQTT fleet',
  'Behind a load balancer',
  'A million',
] as const;

const WITHIN_MS = 120_000;

function reportIn(desk: Desk, name: string): RunReport {
  return JSON.parse(desk.read(name)) as RunReport;
}

test('every section with code has its test, and of what is not run a section has nothing', () => {
  const page = readFileSync(join(repositoryRoot, 'docs', 'RECIPES.md'), 'utf8');
  assert.deepEqual(
    recipesIn(page).map(({ title }) => title),
    TITLES,
  );
  assert.throws(() => recipesIn('## A\n\n```python\nprint()\n```\n'), /python is run by no test/);
  const [one] = recipesIn('## A\n\n```sh\nb --c \\\n  --d  # exit code 3\ne\n```\n\n```\nout\n```\n');
  assert.deepEqual(
    [one?.commands.map(({ text, exitCode }) => [text, exitCode]), one?.outputs],
    [
      [
        ['b --c  --d  # exit code 3', 3],
        ['e', 0],
      ],
      ['out\n'],
    ],
  );
});

/** A server of a repository that is no part of ours: `npm ci`, `npm start`. */
function writeProject(desk: Desk, port: number): void {
  const ws = join(repositoryRoot, 'node_modules', 'ws', 'wrapper.mjs');
  desk.write(
    'server.mjs',
    `import { WebSocketServer } from '${ws}';
new WebSocketServer({ host: '127.0.0.1', port: ${port}, path: '/live', backlog: 4096 }).on('connection', (socket) => socket.on('error', () => {}));
console.log('serving');
`,
  );
  const project = { name: 'live', version: '1.0.0' };
  desk.write('package.json', JSON.stringify({ ...project, scripts: { start: 'node server.mjs' } }));
  const lock = { ...project, lockfileVersion: 3, requires: true, packages: { '': project } };
  desk.write('package-lock.json', JSON.stringify(lock));
}

interface WorkflowStep {
  readonly name?: string;
  readonly uses?: string;
  readonly run?: string;
  readonly if?: string;
  readonly with?: Readonly<Record<string, string | number>>;
}

/** Inputs of the actions of others that the page uses, as their own pages have them. */
const OTHER_ACTIONS: Readonly<Record<string, readonly string[]>> = {
  'actions/checkout@v4': [],
  'actions/setup-node@v4': ['node-version'],
  'actions/upload-artifact@v4': ['name', 'path'],
};

function assertSubset(some: Readonly<Record<string, unknown>>, known: readonly string[]): void {
  assert.deepEqual(
    Object.keys(some).filter((key) => !known.includes(key)),
    [],
  );
}

/** The steps of the one job of a workflow, each either a script or an action that takes what it is given. */
function stepsOf(workflow: string): readonly WorkflowStep[] {
  const { jobs, ...rest } = parse(workflow) as {
    jobs: Record<string, { steps: WorkflowStep[] } & Record<string, unknown>>;
  };
  assertSubset(rest, ['name', 'on']);
  const [{ steps, ...job } = assert.fail('no job'), ...others] = Object.values(jobs);
  assert.equal(others.length, 0);
  assertSubset(job, ['runs-on', 'timeout-minutes']);
  for (const step of steps) {
    assertSubset({ ...step }, ['name', 'uses', 'run', 'with', 'if']);
    assert.equal((step.uses === undefined) !== (step.run === undefined), true, 'a script or an action');
    assert(step.if === undefined || ['failure()', 'always()'].includes(step.if), step.if);
    if (step.uses === undefined) continue;
    const isOurs = step.uses.startsWith('your-org/c100k-bench@');
    const inputs = isOurs ? Object.keys(action.inputs) : OTHER_ACTIONS[step.uses];
    assert(inputs !== undefined, `${step.uses} is known`);
    assertSubset(step.with ?? {}, inputs);
    for (const [name, { required }] of Object.entries(isOurs ? action.inputs : {}))
      assert(required !== true || step.with?.[name] !== undefined, name);
  }
  return steps;
}

/** The variables and the script of the job `soak`, with what its template adds, as GitLab puts them together. */
function gitlabSoak(text: string): { env: Record<string, string>; script: string } {
  const { include, soak } = parse(text) as {
    include: readonly { readonly file: string }[];
    soak: { extends: string; variables: Record<string, string> } & Record<string, unknown>;
  };
  assert.deepEqual(
    include.map(({ file }) => file),
    ['/docs/ci/gitlab.yml'],
  );
  const { extends: base, variables, ...rest } = soak;
  assertSubset(rest, ['image', 'rules', 'services', 'timeout']);
  const template = gitlabTemplate[base];
  assert(template !== undefined, base);
  assertSubset(variables, Object.keys(template.variables));
  return { env: { ...template.variables, ...variables }, script: template.script.join('\n') };
}

test(TITLES[0], { timeout: 4 * WITHIN_MS }, async (t) => {
  const desk = new Desk(t);
  const port = await freePort();
  const files = ['soak.yaml', '.github/workflows/soak.yml', '.gitlab-ci.yml'];
  const page = placed(recipe(TITLES[0], 2, files), [
    // Of GitLab, where the service has a name.
    ['my-server:8080', '127.0.0.1:8080'],
    ['8080', port],
    ['conns: 5k', 'conns: 120'],
    ['duration: 30m', 'duration: 3s'],
    ['connect_p99<500ms', 'connect_p99<60s'],
    ['--conns 200 --duration 20s', '--conns 60 --duration 2s'],
    ['connect_p99:50%', 'connect_p99:1000000%'],
  ]);
  for (const [name, text] of page.files) desk.write(name, text);
  writeProject(desk, port);
  const steps = stepsOf(desk.read('.github/workflows/soak.yml'));
  const [byHand, compare] = page.commands;

  const scripts = steps.filter(({ run }) => run !== undefined);
  assert.deepEqual(
    scripts.map((step) => step.if),
    [undefined, 'failure()'],
  );
  const serving = await desk.start(scripts[0]?.run ?? '').result;
  assert.equal(serving.code, 0, serving.stdout + serving.stderr);
  assertPrints(await desk.type(byHand), page.outputs[0]);

  const ours = steps.find(({ uses }) => uses?.startsWith('your-org/'));
  const inputs = Object.fromEntries(
    Object.entries(ours?.with ?? {}).map(([name, value]) => [name, `${value}`]),
  );
  const { code, outputs, text } = runAction(desk.folder, inputs);
  assert.equal(code, 0, text);
  assert.match(outputs, /^verdict=pass$/m);
  const artifact = steps.find(({ uses }) => uses?.startsWith('actions/upload-artifact'));
  for (const ending of ['json', 'html', 'xml'])
    assert(existsSync(join(desk.folder, `${artifact?.with?.path}`, `soak.${ending}`)), ending);
  const { connections, load } = reportIn(desk, 'c100k-bench/soak.json');
  assert.equal(connections.held, 120);
  assert((load?.churned ?? 0) > 0, 'some have gone');

  const failed = await desk.start(scripts[1]?.run ?? '').result;
  assert.match(failed.stdout, /^serving$/m);

  const gitlab = gitlabSoak(desk.read('.gitlab-ci.yml'));
  const job = ciShell(desk.folder, gitlab.script, {
    ...gitlab.env,
    BENCH_COMMAND: `${process.execPath} ${cliPath}`,
  });
  assert.equal(job.code, 0, job.text);
  assert.match(desk.read('c100k-bench/soak.xml'), /held&gt;=100%/);
  assert.match(await desk.type(compare), /connect_p99/);
});

test(TITLES[1], { skip: whyNot('nginx'), timeout: 4 * WITHIN_MS }, async (t) => {
  const desk = new Desk(t);
  const server = await deployNginx(t, 'one');
  const page = placed(recipe(TITLES[1], 3), [
    ['http://my-server:8080/', `http://127.0.0.1:${server.port}/`],
    ['--conns 50k', '--conns 400'],
    ['--duration 5m', '--duration 25s'],
  ]);
  // What ssh would do there is done here, when it is typed.
  desk.program(
    'ssh',
    'echo "$@" > asked.new; mv asked.new asked; until [ -e restarted ]; do sleep 0.05; done',
  );
  const [plan, hold, restart] = page.commands;
  await desk.type(plan);
  const holding = desk.start(hold?.text ?? '');
  await holding.saw(/ holding /);
  // The holders hear of the hold some moments later; what is lost before that does not come back.
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const restarting = desk.type(restart);
  await until('it is asked to restart', WITHIN_MS, () => existsSync(join(desk.folder, 'asked')));
  assert.equal(desk.read('asked'), 'my-server sudo systemctl restart my-server\n');
  await server.stop();
  await server.start();
  desk.write('restarted', '');
  await restarting;
  const { code, stdout, stderr } = await holding.result;
  assert.equal(code, 0, stdout + stderr);
  assertPrints(stdout, page.outputs[0]);
  assert.equal(server.firstRequestsMs().length, 800, 'the server has seen each of them twice');
  assert.equal(reportIn(desk, 'deploy.json').incidents?.length, 1);
  assert.match(desk.read('deploy.html'), /^<!doctype html>/i);
});

test(TITLES[2], { skip: WHY_NO_MOSQUITTO, timeout: 4 * WITHIN_MS }, async (t) => {
  const desk = new Desk(t);
  const certificates = makeCertificates();
  t.after(() => certificates.remove());
  const { ca, clients, good } = certificates;
  const [port, tlsPort] = [await freePort(), await freePort()];
  const broker = await startBroker(
    t,
    port,
    [
      ...['per_listener_settings true', `listener ${port} 127.0.0.1`, 'password_file FOLDER/passwords'],
      ...[`listener ${tlsPort} 127.0.0.1`, `cafile ${ca.certPath}`, `certfile ${good.certPath}`],
      ...[`keyfile ${good.keyPath}`, 'require_certificate true', 'use_identity_as_username true'],
    ],
    { fleet: 'right' },
  );
  desk.write('password.txt', 'right\n');
  desk.write('ca.pem', ca.cert);
  cpSync(clients.folder, join(desk.folder, 'devices'), { recursive: true });
  const page = placed(recipe(TITLES[2], 3), [
    ['broker:1883', `127.0.0.1:${port}`],
    ['broker:8883', `127.0.0.1:${tlsPort}`],
    ['--duration 10s', '--duration 1s'],
    ['--duration 10m', '--duration 3s'],
    ['--conns 50k', '--conns 150'],
    ['--conns 5k', '--conns 30'],
    ['probe_p99<1s', 'probe_p99<60s'],
  ]);
  const [few, fleet, withCertificates] = page.commands;
  await desk.type(few);
  assert.equal(broker.clientIds().length, 20);
  assertPrints(await desk.type(fleet), page.outputs[0]);
  assert.equal(reportIn(desk, 'fleet.json').connections.verified, 150);
  const topics = [...broker.log().matchAll(/devices\/(\d+)\/commands \(QoS 0\)/g)].map(([, number]) =>
    Number(number),
  );
  assert.equal(new Set(topics).size, 150, 'each has a topic of its own');
  await desk.type(withCertificates);
  const users = [...broker.log().matchAll(/as device-local-\d+ \(p5, c1, k60, u'(device-\d)'\)/g)].map(
    ([, user]) => user,
  );
  assert.deepEqual([...new Set(users)].toSorted(), ['device-0', 'device-1', 'device-2']);
});

test(TITLES[3], { skip: whyNot('haproxy'), timeout: 4 * WITHIN_MS }, async (t) => {
  const desk = new Desk(t);
  const [port, proxyPort] = [await freePort(), await freePort()];
  const servers = [await startWsServer(t, 'ws'), await startWsServer(t, 'ws')];
  const page = placed(recipe(TITLES[3], 4, ['haproxy.cfg']), [
    ['balancer:8080', `127.0.0.1:${port}`],
    ['balancer:8081', `127.0.0.1:${proxyPort}`],
    ['bind :8080', `bind 127.0.0.1:${port}`],
    ['bind :8081', `bind 127.0.0.1:${proxyPort}`],
    ['10.0.0.11:8000', `127.0.0.1:${servers[0]?.port}`],
    ['10.0.0.12:8000', `127.0.0.1:${servers[1]?.port}`],
    ['maxconn 200000', 'maxconn 2000'],
    ['--conns 100k --rate 2k/s --duration 5m', '--conns 300 --rate 2k/s --duration 2s'],
    ['--conns 20k --rate 1k/s --duration 1m', '--conns 200 --rate 1k/s --duration 1s'],
  ]);
  await deployHaproxyWith(t, port, page.files.get('haproxy.cfg') ?? '');
  const [bounded, lifted, hold, asClients] = page.commands;
  assert.match(await desk.type(bounded), /source /);
  await desk.type(lifted);
  let most: number[] = [];
  const running = desk.type(hold);
  const look = (async () => {
    await until('the servers hold all', WITHIN_MS, async () => {
      most = await Promise.all(servers.map(async (server) => (await server.counts()).clients));
      return most.reduce((sum, count) => sum + count, 0) === 300;
    });
  })();
  const printed = await running;
  await look;
  assertPrints(printed, page.outputs[0]);
  const { balance } = reportIn(desk, 'balancer.json');
  assert.deepEqual(balance?.start?.open, { one: most[0], two: most[1] });
  assert.match(await desk.type(asClients), /PASS/);
});

test(TITLES[4], { timeout: 4 * WITHIN_MS }, async (t) => {
  const desk = new Desk(t);
  const [port, statsPort, controlPort] = [await freePort(), await freePort(), await freePort()];
  const page = placed(recipe(TITLES[4], 5), [
    ['--conns 1m', '--conns 2k'],
    ['--duration 1m', '--duration 1s'],
    ['--duration 5m', '--duration 3s'],
    ['--port 8000', `--port ${port}`],
    ['my-server:8000', `127.0.0.1:${port}`],
    ['0.0.0.0:8001', `127.0.0.1:${statsPort}`],
    ['my-server:8001', `127.0.0.1:${statsPort}`],
    ['--listen 0.0.0.0:7000', `--listen 127.0.0.1:${controlPort}`],
    ['desk:7000', `127.0.0.1:${controlPort}`],
    ['--host 0.0.0.0', '--host 127.0.0.1'],
    ['10.0.1.1-10.0.1.4', '127.8.NUMBER.1-127.8.NUMBER.4'],
    ['--name vm1', '--name vmNUMBER'],
  ]);
  const [plan, alone, serve, run, agent] = page.commands;
  await desk.type(plan);
  assertPrints(await desk.type(alone), page.outputs[0]);

  const target = desk.start(serve?.text ?? '');
  await until('it answers with its counts', WITHIN_MS, () =>
    fetch(`http://127.0.0.1:${statsPort}`).then(
      ({ ok }) => ok,
      () => false,
    ),
  );
  // `--engine` describes a host, and the desk is none of those that take part.
  const running = desk.type(run, { C100K_ENGINE: '' });
  await until('the token is there', WITHIN_MS, () => existsSync(join(desk.folder, 'run.token')));
  const agents = [1, 2, 3, 4].map((number) => {
    assert(agent !== undefined);
    return desk.type({ ...agent, text: agent.text.replaceAll('NUMBER', `${number}`) }, { C100K_REPORT: '' });
  });
  await Promise.all([running, ...agents]);
  const { connections, target: counted, agents: parts } = reportIn(desk, 'million.json');
  assert.deepEqual([connections.held, connections.verified, parts.length], [2_000, 2_000, 4]);
  assert.equal(counted?.openMax, 2_000);
  process.kill(-(target.child.pid ?? assert.fail('it has a pid')), 'SIGINT');
  const { stdout, stderr } = await target.result;
  assert.match(stdout + stderr, /2,000/);
});
