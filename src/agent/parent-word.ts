/**
 * Owns waiting for what the run that forked this agent says about this host. Must never take it from elsewhere: whoever
 * has the token may be the coordinator, but only the parent has the other end of this pipe.
 */
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import { isParentWord } from '../run/parent-word.ts';
import type { HostSpec } from '../run/run-spec.ts';
import { after } from '../time/timer.ts';

/** It is sent at once after the fork; a machine that is busy may need a while. */
const WORD_TIMEOUT_MS = 20_000;

/**
 * Waits for the parent's word.
 * @returns what belongs to this host; null: the parent is gone, so there is nothing left to do
 * @throws BenchError (control-channel, exit 4) when nothing comes
 */
export function hostSpecOfParent(timeoutMs = WORD_TIMEOUT_MS): Promise<HostSpec | null> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      timer.cancel();
      process.off('message', onMessage);
      process.off('disconnect', onGone);
    };
    const onMessage = (message: unknown): void => {
      if (!isParentWord(message)) return;
      end();
      resolve(message.hostSpec);
    };
    const onGone = (): void => {
      end();
      resolve(null);
    };
    const timer = after(timeoutMs, () => {
      end();
      reject(
        new BenchError(
          ErrorCode.controlChannel,
          ExitCode.incomplete,
          `the process that started this agent did not say which sources are its own within ${timeoutMs / 1_000} s`,
          'start the run again; an agent by hand needs no C100K_LOCAL_AGENT in its environment',
        ),
      );
    });
    process.on('message', onMessage);
    process.on('disconnect', onGone);
    // It may have gone while this process was loading: then `disconnect` was told before anybody listened.
    if (!process.connected) onGone();
  });
}
