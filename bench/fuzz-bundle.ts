// The shard under test as one file, in which the compiler inlines as in the file that threads run (scripts/build.sh).

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const ENTRY = new URL('../test/fuzz/shard-under-test.js', import.meta.url)
/** Where it lies. */
export const BUNDLE = new URL('../test/fuzz/shard-under-test.bundle.js', import.meta.url).href

export function makeBundle(): void {
  const [entry, file] = [fileURLToPath(ENTRY), fileURLToPath(BUNDLE)]
  const shape = ['--format', 'esm', '--platform', 'node', '--external', '#faults', '--logLevel', 'silent']
  const { status, stderr } = spawnSync('npx', ['rolldown', entry, '--file', file, ...shape], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`rolldown ended with ${status}: ${stderr}`)
}
