// The short form of `npm run prove:leaks`: a part of its sections, a second each.

import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { testFolder } from '../leftovers.ts'

const LEAKS = fileURLToPath(new URL('../../dist/bench/leaks.js', import.meta.url))
const SECTIONS = ['running', 'SIGKILL and restart', 'no expectations left', 'flushes of the ruleset', 'stop']
/** With the kernel alone at the end: a recorder that sees nothing then is blind. */
const BLIND = 'stop, the kernel forwards'

interface Kept {
  readonly sections: readonly { readonly section: string; readonly frames: number; readonly insideSources: number }[]
}

describe('what leaves by the outside', () => {
  it('has no inside source, and no inside address where a helper was to rewrite it', async () => {
    const out = join(testFolder('leaks'), 'leaks.json')
    const asked = [...SECTIONS, BLIND].flatMap((name) => ['--section', name])
    const { stdout } = await promisify(execFile)(process.execPath, [LEAKS, ...asked, '--seconds', '1', '--out', out])
    expect(stdout).toContain('Nothing leaked.')
    const { sections } = JSON.parse(readFileSync(out, 'utf8')) as Kept
    expect(sections.map(({ section }) => section)).toEqual([...SECTIONS, BLIND])
    for (const { frames } of sections) expect(frames).toBeGreaterThan(0)
    expect(sections.at(-1)?.insideSources).toBeGreaterThan(0)
  })
})
