/** Tests that a full disk loses no old report and leaves no half of a new one, on a real file system that is full. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { cliPath } from '../support/run-cli.ts';

const isRoot = process.geteuid?.() === 0;

/** Runs bash in a mount namespace of its own, so that the small file system goes with it. */
function onFullDisk(script: string): { stdout: string; stderr: string; status: number | null } {
  const whole = `
    set -u
    disk=$(mktemp -d) && trap 'umount "$disk" 2>/dev/null; rmdir "$disk"' EXIT
    mount -t tmpfs -o size=256k tmpfs "$disk" || exit 99
    cd "$disk"
    fill() { head -c 1m /dev/zero > fill 2>/dev/null; true; }
    run() { "${process.execPath}" "${cliPath}" --target self --conns 50 --duration 1s --quiet "$@"; echo "exit $?"; }
    ${script}
    cd /`;
  return spawnSync('unshare', ['-m', 'bash', '-c', whole], { encoding: 'utf8', timeout: 120_000 });
}

const options = isRoot ? {} : { skip: 'mounting needs root' };

test('a disk that is full before the run is reported before it, and nothing is left there', options, () => {
  const { stdout, stderr } = onFullDisk(
    'fill; for flag in --json --junit --prometheus; do run $flag r.out; done; ls -A',
  );
  assert.equal(stdout, 'exit 5\nexit 5\nexit 5\nfill\n', stderr);
  assert.equal(stderr.match(/no space left/g)?.length, 3, stderr);
});

test(
  'a disk that fills up during the run keeps the old reports whole, and no temporary file',
  options,
  () => {
    const { stdout, stderr } = onFullDisk(`
    echo old > r.json; echo old > r.xml
    log=$(mktemp)
    "${process.execPath}" "${cliPath}" --target self --conns 50 --duration 60s \\
      --json r.json --junit r.xml --prometheus r.prom >/dev/null 2>"$log" & pid=$!
    # Its first line comes after the reports were checked.
    until [ -s "$log" ]; do sleep 0.05; done
    fill; kill -TERM $pid; wait $pid; echo "exit $?"; rm "$log"
    ls -A; cat r.json r.xml`);
    // The text of the report is on stdout too; what matters is behind the exit code.
    assert.equal(stdout.slice(stdout.indexOf('exit ')), 'exit 5\nfill\nr.json\nr.xml\nold\nold\n', stderr);
  },
);
