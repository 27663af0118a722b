// The short form of `npm run prove:soak`: a minute of it, and the two until everything has returned to zero. What is
// judged are counts, whatever the machine's speed is.

import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { testFolder } from '../leftovers.ts'

const SOAK = fileURLToPath(new URL('../../dist/bench/soak.js', import.meta.url))

interface Kept {
  readonly faults: readonly string[]
  readonly floods: Readonly<Record<string, number>>
  readonly outcomes: Readonly<Record<string, { readonly tried: number; readonly succeeded: number }>>
}

describe('two hundred hosts and one that floods, for a minute', () => {
  it('leave nothing behind, and all get what they ask for', async () => {
    const out = join(testFolder('soak'), 'soak.json')
    const args = ['--minutes', '1', '--seed', '7', '--out', out]
    const said = await promisify(execFile)(process.execPath, [SOAK, ...args]).catch(
      (error: { stdout: string }) => error,
    )
    const { faults, floods, outcomes } = JSON.parse(readFileSync(out, 'utf8')) as Kept
    expect(faults, said.stdout).toEqual([])
    expect(Object.keys(floods).length).toBeGreaterThan(1)
    expect(Object.keys(outcomes).sort()).toEqual(['FTP, PASV', 'FTP, PORT', 'download', 'name', 'page'])
    for (const { succeeded } of Object.values(outcomes)) expect(succeeded).toBeGreaterThan(0)
  })
})
