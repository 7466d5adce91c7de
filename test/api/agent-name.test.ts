/** Tests which names an agent may have. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkAgentName } from '../../src/api/agent-name.ts';
import { BenchError, ExitCode } from '../../src/base/errors.ts';
import { NAME_CHARACTERS_MAX } from '../../src/control/message.ts';

test('a name is taken up to the length that a message carries, and refused beyond it with its flag', () => {
  checkAgentName('a', '--name');
  checkAgentName('n'.repeat(NAME_CHARACTERS_MAX), '--name');
  for (const name of ['', 'n'.repeat(NAME_CHARACTERS_MAX + 1)]) {
    assert.throws(
      () => checkAgentName(name, '--name'),
      (error) =>
        error instanceof BenchError &&
        error.exitCode === ExitCode.usage &&
        error.message.startsWith('--name:'),
    );
  }
});
