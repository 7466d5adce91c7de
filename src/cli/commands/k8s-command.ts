/**
 * Owns `c100k-bench k8s`: the flags of a run in, manifests for `kubectl apply -f -` on stdout.
 * Must never talk to a cluster, and must never put the token anywhere but into the Secret.
 */

import { clearCredentials, readKubernetesRun } from '../../api/kubernetes-request.ts';
import { closeToOthers } from '../../api/token-source.ts';
import { ExitCode } from '../../base/errors.ts';
import { type KubernetesRun, kubernetesManifests, manifestYaml } from '../../place/kubernetes.ts';
import type { CommandContext } from '../command-line.ts';
import { tell, writeResult } from '../output.ts';

/**
 * Prints the manifests.
 * @returns 0
 * @throws BenchError (exit 2) on flags that no run would take
 */
export async function k8sCommand({ values }: CommandContext): Promise<ExitCode> {
  const run = await readKubernetesRun(values);
  closeToOthers();
  await writeResult(manifestYaml(kubernetesManifests(run), headingOf(run)));
  tell('the Secret in these manifests holds the token of the run: apply them, and do not keep them');
  const clear = clearCredentials(values);
  if (clear.length > 0) {
    tell(
      `${clear.join(', ')} may hold a credential, and ${clear.length === 1 ? 'stands' : 'stand'} in the command line of the coordinator's pod as typed: ` +
        'who may read its Job reads it. A variable of the pod from a Secret of your own (such as C100K_HEADER) is safer',
    );
  }
  return ExitCode.held;
}

/** What to type next, above the manifests. */
function headingOf(run: KubernetesRun): string[] {
  const at = run.namespace === null ? '' : ` -n ${run.namespace}`;
  return [
    `c100k-bench with ${run.agents} agents. Made by: c100k-bench k8s`,
    `  start    kubectl apply -f FILE`,
    `  watch    kubectl logs${at} -f job/${run.name}-coordinator`,
    `  remove   kubectl delete${at} job,service,secret -l app.kubernetes.io/instance=${run.name}`,
    '',
    'A Job cannot be changed: remove the old run before the next one.',
    'Pods have no ulimit setting. An agent starts as many holders as the descriptors of one process ask for; where the',
    'container runtime allows few (below about 20,000), raise its LimitNOFILE on the nodes, or use more agents.',
  ];
}
