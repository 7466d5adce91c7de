import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { BenchError, ErrorCode, ExitCode } from '../../src/base/errors.ts';
import { checkReportFile } from '../../src/cli/report-file.ts';

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

  it('keeps the old text when the new one cannot be written', () => {
    const inner = join(folder, 'inner');
    mkdirSync(inner);
    const path = join(inner, 'r.json');
    writeFileSync(path, 'old');
    const file = checkReportFile(path);
    // Where the new text would be written first there is now something that cannot be written to.
    mkdirSync(join(inner, `.r.json.${process.pid}.tmp`));
    assert.throws(() => file.write('new'), isUnwritable(/it is a directory/));
    assert.equal(readFileSync(path, 'utf8'), 'old');
    rmSync(inner, { recursive: true });
    assert.throws(() => file.write('new'), isUnwritable(/directory does not exist/));
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
