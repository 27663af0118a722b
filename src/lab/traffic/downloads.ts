// HTTP downloads by the LAN host, several at a time, each by a connection of its own and checked by its SHA-256.

import { createHash } from 'node:crypto'
import { get } from 'node:http'
import { PATIENCE_MS } from '../world/patience.ts'
import { answered, content, counted, flowOf, inParallel, options, problem, type Tally } from './traffic.ts'

export interface Downloads {
  /** Addresses of the LAN host, taken in turn. */
  readonly from: readonly string[]
  /** `host:port`, taken in turn. */
  readonly servers: readonly string[]
  /** Sizes in bytes, taken in turn. */
  readonly sizes: readonly number[]
  readonly downloads: number
  readonly atATime: number
}

const { from, servers, sizes, downloads, atATime } = options<Downloads>()

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

function download(url: string, localAddress: string, tally: Tally): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false, localAddress }, (response) => {
      answered(flowOf(response.socket))
      const hash = createHash('sha256')
      response.on('data', (bytes: Buffer) => {
        hash.update(bytes)
        tally.bytes += bytes.length
      })
      response.on('end', () => resolve(hash.digest('hex')))
      response.on('error', reject)
    })
    request.on('error', reject)
    request.setTimeout(PATIENCE_MS, () => request.destroy(new Error(`nothing came for ${PATIENCE_MS / 1000} s`)))
  })
}

await counted(downloads, (tally) =>
  inParallel(downloads, atATime, async (number) => {
    const size = sizes[number % sizes.length] as number
    const url = `http://${servers[number % servers.length]}/${number}/${size}`
    tally.sent++
    try {
      if ((await download(url, from[number % from.length] as string, tally)) === sha256(content(number, size)))
        tally.arrived++
      else {
        tally.wrong++
        problem(tally, `${url}: the bytes that came are not the bytes that were asked for`)
      }
    } catch (error) {
      problem(tally, `${url}: ${(error as Error).message}`)
    }
  }),
)
