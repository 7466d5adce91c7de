/** Owns the gate of the control server under simulation: everyone who comes has proved its key. */
import type { SimTls } from '../sim-socket.ts';

export { GATE_LIMITS, shownAddress } from '../../../src/control/gate.ts';

/** As src/control/gate.ts has it. */
export class Gate {
  readonly #onProven: (socket: SimTls) => void;

  constructor({ onProven }: { readonly onProven: (socket: SimTls) => void }) {
    this.#onProven = onProven;
  }

  take(socket: SimTls): void {
    this.#onProven(socket);
  }

  secured(): void {}
  upgraded(): void {}
  greeted(): void {}
  close(): void {}
}
