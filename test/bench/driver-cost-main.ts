/**
 * Owns running the comparison of the drivers by itself:
 *
 *   node build/test/bench/driver-cost-main.js [pairs [connections]]     in the folder of package.json
 */
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { measureDriverCost } from './driver-cost.ts';
import { formatFigure } from './figure.ts';
import { Yardstick } from './yardstick.ts';

const [pairs = '7', connections = '18000'] = process.argv.slice(2);
const yardstick = new Yardstick(join(process.cwd(), 'test', 'bench'));
try {
  const loads = [loadavg()[0]];
  const figures = await measureDriverCost(yardstick, Number(pairs), Number(connections));
  loads.push(loadavg()[0]);
  for (const one of figures)
    console.log(`${formatFigure(one)}  [${one.samples.map((sample) => sample.toPrecision(3)).join(' ')}]`);
  console.log(`load of the machine before and after: ${loads.map((load) => load!.toFixed(1)).join(', ')}`);
} finally {
  yardstick.remove();
}
