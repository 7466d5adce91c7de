/**
 * Owns who must not be able to use a file that holds a secret. Must never look at a file itself.
 */

/** Bits of a mode (inode(7)). */
export const OF_GROUP = 0o070;
export const OF_OTHERS = 0o007;

/**
 * Why a token file is not to be trusted. ssh's rule for keys (sshkey_perm_ok), and stricter: who is neither this process's
 * user nor root has not put it there for us, and what every user of the host can read is no secret, whoever owns it.
 *
 * Bits of the group count only where the file is ours. Where it is root's and we are not, its administrator has chosen who
 * reads it: Kubernetes gives a Secret to the pod's fsGroup (root, 0440), systemd a credential by an access list, whose mask
 * shows in these bits.
 * @param uid of this process
 * @returns null: it may be used
 */
export function whyUnsafe(
  { uid: owner, mode }: { readonly uid: number; readonly mode: number },
  uid: number,
): string | null {
  if (owner !== uid && owner !== 0) return 'it belongs to another user';
  const asText = (mode & 0o777).toString(8).padStart(4, '0');
  if ((mode & OF_OTHERS) !== 0) return `every user of this host can use it (mode ${asText})`;
  return owner === uid && (mode & OF_GROUP) !== 0 ? `its group can use it (mode ${asText})` : null;
}
