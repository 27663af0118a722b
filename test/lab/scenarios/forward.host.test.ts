import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { PROGRAM_LIMIT_MS } from '../../patience.ts'

// The command as it is shipped: what `npm run build` made.
const COMMAND = fileURLToPath(new URL('../../../dist/src/control/main.js', import.meta.url))

const leftBy = (pid: number | undefined) =>
  ['/run/netns', tmpdir()].flatMap((directory) =>
    readdirSync(directory).filter((name) => name.startsWith(`natloom-lab-${pid}-`)),
  )

/** How many shards, and who dispatches to them. */
const GATEWAYS = [
  [1, 'kernel'],
  [4, 'kernel'],
  [2, 'thread'],
] as const

describe('natloom lab', () => {
  it.each(GATEWAYS)(
    'sends all its traffic with %i shards and %s dispatch, gets all of it right, and leaves nothing behind',
    async (workers, dispatch) => {
      const options = ['lab', '--workers', String(workers), '--dispatch', dispatch]
      const lab = spawn('setpriv', ['--pdeathsig', 'TERM', process.execPath, COMMAND, ...options], {
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: PROGRAM_LIMIT_MS,
      })
      const [output, errors, [code]] = await Promise.all([text(lab.stdout), text(lab.stderr), once(lab, 'exit')])
      expect({ code, errors }, output).toEqual({ code: 0, errors: '' })
      expect(output).toContain('All traffic right, nothing left behind.')
      expect(output).toMatch(new RegExp(`shards +${workers}\n`))
      expect(output).toMatch(/each of \d+ connections is in the one shard that owns both of its directions/)
      expect(output).toMatch(/drops by reason .*ttl-expired/)
      expect(leftBy(lab.pid)).toEqual([])
    },
  )
})
