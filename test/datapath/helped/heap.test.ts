// What natloom keeps on the thread's heap for helped connections is measured, so that no helper is blamed for it
// (helpers/running-helper.shard.ts): heapOfHelped() must say at least as much as they take, twice.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, it } from 'vitest'
import { CONN_SHIFT } from '../../../src/conntrack/connection-table.ts'
import type { Direction } from '../../../src/conntrack/terms.ts'
import { failing, start } from './failures.ts'

const CONNECTIONS = 2000
const DIRECTIONS: readonly Direction[] = [0, 1]
const GAPS = 8
const LINE = Buffer.from('NOOP\r\n')
/** Bytes of a silent connection: with buffers of their own, its queues alone took as much. */
const MOST_OF_SILENT = 1300

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
const inUse = (): number => {
  collect()
  return process.memoryUsage().heapUsed
}

it('is covered by what is counted: of silent connections, busy ones, such with gaps, watched ones', async () => {
  const dialogue = await start(failing('FAIL'), { connections: 4096 })
  dialogue.tell(dialogue.client, 'NOOP\r\n')
  const helped = await import('../../../src/datapath/helped/helped-connections.ts')
  const { beginWatch, segmentNames } = await import('../../../src/datapath/helped/watch.ts')
  const { noteSent, receiverNext } = await import('../../../src/datapath/helped/receiver-next.ts')
  const { goneEnd } = await import('../../../src/datapath/helped/gone-bytes.shard.ts')
  const { connections, hot } = await import('../../../src/conntrack/connections.shard.ts')
  // As many copies of a helped connection's row.
  const row = connections.highest
  const rows = Array.from({ length: CONNECTIONS }, (_, i) => row + 1 + i)
  const words = 1 << CONN_SHIFT
  for (const copy of rows) hot.copyWithin(copy * words, row * words, (row + 1) * words)
  const streams = () => rows.flatMap((each) => helped.helpedConnectionOf(each)!.streams)

  const used = inUse()
  const counted = helped.heapOfHelped()
  const perConnection = () => ({
    uses: (inUse() - used) / CONNECTIONS,
    counts: (helped.heapOfHelped() - counted) / CONNECTIONS,
  })
  const expectCovered = (what: string) => {
    const { uses, counts } = perConnection()
    expect(counts, `${what}, which take ${uses} bytes`).toBeGreaterThan(2 * uses)
    return uses
  }

  for (const each of rows) helped.beginHelp(each)
  expect(expectCovered('silent ones')).toBeLessThan(MOST_OF_SILENT)
  for (const stream of streams()) {
    stream.begin(0)
    stream.append(LINE, 0, 0, LINE.length)
    stream.letGo(3)
  }
  expectCovered('busy ones')
  for (const stream of streams()) for (let i = 0; i < GAPS; i++) stream.keepEarly(LINE, 0, 100 + 10 * i, 1)
  expectCovered('ones with gaps')
  for (const each of rows) {
    beginWatch(each, 'threw')
    for (const direction of DIRECTIONS) {
      segmentNames(each, direction, 0, 'NOOP\r\n')
      for (let i = 0; i < 40; i++) noteSent(each, direction, 100 * i, 100 * i + 6)
    }
  }
  expect(DIRECTIONS.map((direction) => receiverNext(rows[0]!, direction))).toEqual([6, 6])
  expect(goneEnd(rows[0]!)).toBe(6)
  expectCovered('watched ones')
})
