// How long tests wait. No test depends on being fast: what must happen is awaited, and these limits only end what
// hangs, so they hold on a slow machine that does many other things at the same time.

import { setTimeout as delay } from 'node:timers/promises'

/** The time limit of one wait inside a test: shorter than the test's, so that the wait's message is the one read. */
export const PATIENCE_MS = 120_000

/** The time limit of a program that a test runs to its end, and that does a whole test's work. */
export const PROGRAM_LIMIT_MS = 480_000

/** The time limit of a test, and of a hook: vitest.config.ts. */
export const TEST_LIMIT_MS = 600_000

const LOOK_EVERY_MS = 20

/** Looks again and again until it is so; for what announces itself by no event. `what` is said if it never is so. */
export async function eventually(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + PATIENCE_MS; !(await isSo()); await delay(LOOK_EVERY_MS))
    if (Date.now() > deadline) throw new Error(`${what}: not within ${PATIENCE_MS / 1000} s`)
}
