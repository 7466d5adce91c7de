/** Owns `node:os` for agents under simulation: each host is the same one, whatever the machine that simulates is. */

const CPUS = 4;
const MEMORY_BYTES = 8 * 2 ** 30;

export const cpus = (): readonly object[] => Array.from({ length: CPUS }, () => ({}));
export const availableParallelism = (): number => CPUS;
export const totalmem = (): number => MEMORY_BYTES;
export const freemem = (): number => MEMORY_BYTES / 2;
export const hostname = (): string => 'simulated';
export const release = (): string => '6.1.0-simulated';
