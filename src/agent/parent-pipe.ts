/**
 * Owns an agent's end of the pipe to the process that forked it: what that one says about this host, and the
 * heartbeat that says that this process is still closing. Must never take a host's own things from elsewhere (whoever has the token may be the
 * coordinator, but only the parent has the other end of this pipe), and never keep the process alive.
 */
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import {
  isHostSpecMessage,
  SHUTDOWN_HEARTBEAT,
  SHUTDOWN_HEARTBEAT_EVERY_MS,
} from '../run/process-message.ts';
import type { HostSpec } from '../run/run-spec.ts';
import { after, every } from '../time/timer.ts';

/** It is sent immediately after the fork; a machine that is busy may need a while. */
const HOST_SPEC_TIMEOUT_MS = 20_000;

/**
 * Waits for what the parent says about this host.
 * @returns what belongs to this host; null: the parent is gone, so there is nothing left to do
 * @throws BenchError (control-channel, exit 4) when nothing comes
 */
export function hostSpecOfParent(timeoutMs = HOST_SPEC_TIMEOUT_MS): Promise<HostSpec | null> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      timer.cancel();
      process.off('message', onMessage);
      process.off('disconnect', onGone);
    };
    const onMessage = (message: unknown): void => {
      if (!isHostSpecMessage(message)) return;
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
    // It may have gone while this process was loading: then `disconnect` came before there was a listener.
    if (!process.connected) onGone();
  });
}

/** From now on heartbeats go to the parent, where there is one, until this process ends by itself. */
export function startShutdownHeartbeat(): void {
  if (!process.connected) return;
  // Its listeners keep the pipe, and so this process; from now on only work that is left may.
  process.channel?.unref();
  sendHeartbeat();
  every(SHUTDOWN_HEARTBEAT_EVERY_MS, sendHeartbeat, { isUnref: true });
}

/** A parent that is gone needs no heartbeat. */
function sendHeartbeat(): void {
  if (process.connected) process.send?.(SHUTDOWN_HEARTBEAT, () => {});
}
