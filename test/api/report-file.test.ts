import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it, type TestContext, test } from 'node:test';
import { checkReportFile, EventsFile } from '../../src/api/report-file.ts';
import { BenchError, ErrorCode, ExitCode } from '../../src/base/errors.ts';
import type { LedgerEntry } from '../../src/coordinator/run-watch.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-report-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function isUnwritable(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert(error instanceof BenchError, String(error));
    assert.equal(error.code, ErrorCode.reportUnwritable);
    assert.equal(error.exitCode, ExitCode.reportUnwritten);
    assert.match(error.message, pattern);
    return true;
  };
}

describe('the report file', () => {
  it('is not touched by the check, and is whole after the write', () => {
    const path = join(folder, 'new.json');
    const file = checkReportFile(path);
    assert.deepEqual(readdirSync(folder), []);
    file.write('{"a":1}\n');
    assert.equal(readFileSync(path, 'utf8'), '{"a":1}\n');
    assert.deepEqual(readdirSync(folder), ['new.json']);
  });

  it('keeps the old text until the new one is written', () => {
    const path = join(folder, 'old.json');
    writeFileSync(path, 'old');
    const file = checkReportFile(path);
    assert.equal(readFileSync(path, 'utf8'), 'old');
    file.write('new');
    assert.equal(readFileSync(path, 'utf8'), 'new');
  });

  it('fails, and makes nothing, when its folder has gone', () => {
    const inner = join(folder, 'inner');
    mkdirSync(inner);
    const file = checkReportFile(join(inner, 'r.json'));
    rmSync(inner, { recursive: true });
    assert.throws(() => file.write('new'), isUnwritable(/directory does not exist/));
    assert.ok(!readdirSync(folder).includes('inner'));
  });

  it('keeps the mode of the file that it replaces, and makes a new one as any other', () => {
    for (const mode of [0o600, 0o640, 0o666]) {
      const path = join(folder, `mode-${mode}.json`);
      writeFileSync(path, 'old');
      chmodSync(path, mode);
      checkReportFile(path).write('new');
      assert.equal(statSync(path).mode & 0o777, mode);
    }
    const path = join(folder, 'fresh.json');
    checkReportFile(path).write('new');
    assert.equal(statSync(path).mode & 0o777, 0o666 & ~process.umask());
  });

  it('has a name of 255 bytes like any other', () => {
    const path = join(folder, 'n'.repeat(255));
    checkReportFile(path).write('new');
    assert.equal(readFileSync(path, 'utf8'), 'new');
    rmSync(path);
  });

  it('does not follow a link that is put in its place while the run goes on', () => {
    const shared = mkdtempSync(join(folder, 'shared-'));
    chmodSync(shared, 0o1777);
    const victim = join(folder, 'victim');
    writeFileSync(victim, 'precious');
    const path = join(shared, 'r.json');
    const file = checkReportFile(path);
    symlinkSync(victim, path);
    assert.throws(
      () => file.write('new'),
      isUnwritable(/a symbolic link in a folder that all users may write/),
    );
    assert.equal(readFileSync(victim, 'utf8'), 'precious');
    assert.deepEqual(readdirSync(shared), ['r.json']);
  });

  it('is written to the descriptor that /dev/stdout names, behind what is there already', () => {
    const path = join(folder, 'stdout.txt');
    const script = `
      import { checkReportFile } from ${JSON.stringify(new URL('../../src/api/report-file.js', import.meta.url).href)};
      for (const name of ['/dev/stdout', '/proc/self/fd/1', '/dev/fd/1']) {
        const file = checkReportFile(name);
        console.log('text');
        file.write(name + ' ' + file.isReplaceable + '\\n');
      }`;
    const wanted = 'text\n/dev/stdout false\ntext\n/proc/self/fd/1 false\ntext\n/dev/fd/1 false\n';
    const run = (redirect: string): string =>
      execFileSync('bash', ['-c', `"$0" --input-type=module -e "$1" ${redirect}`, process.execPath, script], {
        encoding: 'utf8',
      });
    run(`> '${path}'`);
    assert.equal(readFileSync(path, 'utf8'), wanted);
    assert.equal(run('| cat'), wanted);
    assert.equal(run('> >(cat); wait $!'), wanted);
  });

  it('waits for the reader of a pipe, but not for ever', async () => {
    const path = join(folder, 'pipe');
    execFileSync('mkfifo', [path]);
    const text = 'x'.repeat(300_000);
    const file = checkReportFile(path);
    assert.equal(file.isReplaceable, false);
    assert.throws(() => file.write(text), isUnwritable(/no process reads it/));
    const reader = spawn('cat', [path], { stdio: ['ignore', 'pipe', 'inherit'] });
    let bytes = 0;
    reader.stdout.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    file.write(text);
    await once(reader, 'close');
    assert.equal(bytes, text.length);
  });

  it('writes through a symbolic link and leaves the link', () => {
    const target = join(folder, 'linked.json');
    const link = join(folder, 'link.json');
    writeFileSync(target, 'old');
    symlinkSync(target, link);
    checkReportFile(link).write('new');
    assert.equal(readFileSync(target, 'utf8'), 'new');
  });

  it('cannot be a directory, below a file, or in a directory that is missing', () => {
    assert.throws(() => checkReportFile(folder), isUnwritable(/it is a directory/));
    assert.throws(() => checkReportFile(join(folder, 'nowhere', 'r.json')), isUnwritable(/does not exist/));
    assert.throws(() => checkReportFile(join(folder, 'old.json', 'r.json')), isUnwritable(/not a directory/));
  });

  it('cannot be a device that is full, and that device is still there afterwards', () => {
    assert.throws(() => checkReportFile('/dev/full'), isUnwritable(/no space left/));
    assert.throws(() => checkReportFile('/dev/full'), isUnwritable(/no space left/));
  });

  it('can be a device that takes everything', () => {
    checkReportFile('/dev/null').write('x');
  });
});

/** The file writes what it is given: any entry will do. */
function entries(count: number, text = ''): LedgerEntry[] {
  return Array.from({ length: count }, (_, at) => ({ at, text }) as object as LedgerEntry);
}

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-events-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function isEventsUnwritable(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof BenchError, String(error));
    assert.deepEqual([error.code, error.exitCode], [ErrorCode.reportUnwritable, ExitCode.reportUnwritten]);
    assert.match(error.message, pattern);
    return true;
  };
}

test('an old ledger is emptied and keeps its mode; one that is moved away is followed by a new one', (t) => {
  const path = join(folderOf(t), 'events.jsonl');
  writeFileSync(path, 'old');
  chmodSync(path, 0o640);
  const file = new EventsFile(path);
  assert.equal(readFileSync(path, 'utf8'), '');
  file.append(entries(1));
  renameSync(path, `${path}.1`);
  file.append(entries(2));
  file.check();
  assert.equal(readFileSync(`${path}.1`, 'utf8').split('\n').length, 2);
  assert.equal(readFileSync(path, 'utf8').split('\n').length, 3);
  assert.equal(statSync(path).mode & 0o777, 0o640);
});

test('a link that is put in its place gets nothing, and the end of the run says so', (t) => {
  const folder = folderOf(t);
  const path = join(folder, 'events.jsonl');
  const file = new EventsFile(path);
  rmSync(path);
  writeFileSync(join(folder, 'victim'), 'precious');
  symlinkSync('victim', path);
  file.append(entries(1));
  assert.throws(() => file.check(), isEventsUnwritable(/cannot be written to .*events.jsonl: /));
  assert.equal(readFileSync(join(folder, 'victim'), 'utf8'), 'precious');
});

test('a pipe gets everything, also what came before its reader and more than it holds', async (t) => {
  const path = join(folderOf(t), 'pipe');
  execFileSync('mkfifo', [path]);
  const file = new EventsFile(path);
  for (let batch = 0; batch < 10; batch += 1) file.append(entries(100, 'x'.repeat(300)));
  const reader = spawn('cat', [path], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  reader.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  file.append(entries(1));
  file.check();
  await once(reader, 'close');
  assert.equal(text.split('\n').length - 1, 1_001);
});

test('a pipe that no process reads stops no batch, and is reported at the end; it does not fill the memory', (t) => {
  const path = join(folderOf(t), 'pipe');
  execFileSync('mkfifo', [path]);
  const idle = new EventsFile(path);
  idle.append(entries(1));
  assert.throws(() => idle.check(), isEventsUnwritable(/no process reads it/));
  const full = new EventsFile(path);
  for (let batch = 0; batch < 40; batch += 1) full.append(entries(1_000, 'x'.repeat(1_000)));
  assert.throws(() => full.check(), isEventsUnwritable(/does not keep up/));
});
