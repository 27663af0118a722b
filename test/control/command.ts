// The compiled command, run as a user does.

import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { testFolder } from '../leftovers.ts'

const MAIN = fileURLToPath(new URL('../../dist/src/control/main.js', import.meta.url))

export type Variables = Readonly<Record<string, string>>

/** Runs `natloom ...args` to its end with no variables but these. */
export function natloom(args: readonly string[], env: Variables = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, ...env },
  })
  return { status, stdout, stderr }
}

/** A file that lives as long as the test. */
export function temporaryFile(name: string, text: string | Uint8Array): string {
  const folder = testFolder('test')
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}
