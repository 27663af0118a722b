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
  [2, 'kernel'],
  [2, 'thread'],
  [4, 'kernel'],
] as const

describe('natloom lab ftp: real servers and clients, active and passive, from either side, DCC and TFTP', () => {
  it.each(GATEWAYS)(
    '%i shards, %s dispatch: every file arrives, and each connection is where both its directions belong',
    async (workers, dispatch) => {
      const options = ['lab', 'ftp', '--workers', String(workers), '--dispatch', dispatch]
      const lab = spawn('setpriv', ['--pdeathsig', 'TERM', process.execPath, COMMAND, ...options], {
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: PROGRAM_LIMIT_MS,
      })
      const [output, errors, [code]] = await Promise.all([text(lab.stdout), text(lab.stderr), once(lab, 'exit')])
      expect({ code, errors }, output).toEqual({ code: 0, errors: '' })
      expect(output).toMatch(/client says +PORT 10,0,0,2,156,64\n +server hears +PORT 203,0,113,1,\d+,\d+\n/)
      expect(output).toMatch(/expected +from 198\.51\.100\.11, any port, to 203\.0\.113\.1:\d+ for 10\.0\.0\.2:40000/)
      expect(output).toMatch(/master +10\.0\.0\.2:\d+ to 198\.51\.100\.11:21, in shard \d/)
      expect(output).toContain('All traffic right, nothing left behind.')
      expect(output).toMatch(/each of \d+ connections is in the one shard that owns both of its directions/)
      expect(leftBy(lab.pid)).toEqual([])
    },
  )
})
