// The program nft where it does not do what it is asked for: a stand-in is found before the real one.

import { chmodSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { HostError } from '../../src/host/errors.ts'
import { testFolder } from '../leftovers.ts'
import { PATIENCE_MS } from '../patience.ts'

let folder: string
beforeEach(() => {
  folder = testFolder('nft')
  vi.stubEnv('PATH', [folder, process.env.PATH].join(delimiter))
  vi.resetModules()
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(folder, { recursive: true })
})

/** What becomes of a call where nft is this shell script, and has this long. */
async function called(script: string, withinMs = PATIENCE_MS): Promise<Pick<HostError, 'code' | 'message'> | string> {
  writeFileSync(join(folder, 'nft'), `#!/bin/sh\n${script}\n`)
  chmodSync(join(folder, 'nft'), 0o755)
  const { nft } = await import('../../src/host/nft.ts')
  try {
    return nft(['list', 'ruleset'], withinMs)
  } catch (error) {
    const { code, message } = error as HostError
    return { code, message }
  }
}

it('gives back what nft prints', async () => {
  expect(await called('echo "$*, to the end"')).toBe('list ruleset, to the end\n')
})

it('says why nft has failed', async () => {
  expect(await called('echo "Error: No such file" >&2; exit 1')).toEqual({
    code: 'HOST_NFT',
    message: 'nft list ruleset failed: Error: No such file',
  })
})

it.each([
  ['waits', 'exec sleep 86400'],
  ['waits and ignores that it is asked to end', `trap '' TERM; while :; do sleep 1; done`],
  ['has left a program that keeps its output open', 'sleep 5 & exec sleep 86400'],
])('ends an nft that %s, and says so', async (_, script) => {
  expect(await called(script, 200)).toEqual({
    code: 'HOST_NFT',
    message:
      'nft list ruleset failed: it was ended, since it had not answered within 0.2 s: see what it waits for ' +
      '(`nft list ruleset` in a shell), or whether this host has time for it',
  })
})
