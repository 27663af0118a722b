// One LAN host fetches and puts files by TFTP with Debian's client, one after the other. Counted are files: one that
// was fetched is compared with the bytes it should have, one that was put is read in the server's directory.

import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { PATIENCE_MS } from '../world/patience.ts'
import { DOWN, fileName, UP } from './servers.ts'
import { content, counted, options, problem } from './traffic.ts'

export interface TftpTransfers {
  readonly host: string
  /** The server's directory. */
  readonly files: string
  readonly sizes: readonly number[]
  /** How many files are fetched, and as many are put. */
  readonly transfers: number
  /** For the client's files. */
  readonly directory: string
}

const { host, files, sizes, transfers, directory } = options<TftpTransfers>()
const run = promisify(execFile)

mkdirSync(directory, { recursive: true })
await counted(2 * transfers, async (tally) => {
  for (let number = 0; number < transfers; number++) {
    const size = sizes[number % sizes.length] as number
    const name = fileName(number, size)
    const local = join(directory, name)
    const put = join(UP, name)
    const orders = [
      ['get', join(DOWN, name), local, () => readFileSync(local)],
      ['put', local, put, () => readFileSync(join(files, put))],
    ] as const
    for (const [order, one, other, came] of orders) {
      tally.sent++
      try {
        if (order === 'put') writeFileSync(local, content(number, size))
        const args = ['--pdeathsig', 'TERM', 'tftp', '-m', 'binary', host, '-c', order, one, other]
        await run('setpriv', args, { timeout: PATIENCE_MS })
        if (!came().equals(content(number, size)))
          throw new Error('the bytes that came are not the bytes that were sent')
        tally.arrived++
        tally.bytes += size
      } catch (error) {
        problem(tally, `${order} ${name}: ${(error as Error).message}`)
      }
    }
  }
})
