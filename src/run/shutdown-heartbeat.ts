/**
 * Owns the sign that an agent which was told to end gives its parent while it still gives addresses back. Must never be
 * given by one that has nothing left to do: the parent waits for as long as it comes.
 */

/** The message on the pipe of fork. */
export const CLOSING_SIGN = 'closing';

/** How often it comes, in milliseconds. */
export const CLOSING_SIGN_EVERY_MS = 500;
