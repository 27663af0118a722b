// The real gateway while its shards crash, between real hosts: `bench/kill.ts` in short.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { PROGRAM_LIMIT_MS } from '../patience.ts'

const BENCH = fileURLToPath(new URL('../../dist/bench/kill.js', import.meta.url))
const CRASHES = 6
/** Printed with the result, and to be given with --seed to see the same again. */
const SEED = 20_261_126

describe('a gateway of two shards', () => {
  for (const by of ['atomics', 'faults'])
    it(`loses no established connection while they crash at ${by}`, async () => {
      const options = ['--crashes', CRASHES, '--workers', 2, '--by', by, '--seed', SEED, '--out', '/dev/null']
      const bench = spawn('setpriv', ['--pdeathsig', 'TERM', process.execPath, BENCH, ...options.map(String)], {
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: PROGRAM_LIMIT_MS,
      })
      const [output, errors, [code]] = await Promise.all([text(bench.stdout), text(bench.stderr), once(bench, 'exit')])
      expect({ code, errors }, output).toEqual({ code: 0, errors: '' })
      expect(Number(/crashes +(\d+)/.exec(output)?.[1])).toBeGreaterThanOrEqual(CRASHES)
      expect(output).toMatch(/gap +median \d+ ms, most \d+ ms/)
      expect(output).toContain('Nothing that was established broke.')
    })
})
