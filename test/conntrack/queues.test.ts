// First-in first-out queues threaded through the table, against plain arrays.

import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { type AttachedTables, attachTables } from './attached-tables.ts'

const CAPACITY = 12
const EXTERNALS = 2

let queues: AttachedTables['queues']
let windows: AttachedTables['connections']['windows']
beforeAll(async () => {
  const table = await attachTables(CAPACITY)
  queues = table.queues
  windows = table.connections.windows
})

function rowsIn(queue: number): number[] {
  const rows: number[] = []
  for (let row = queues.oldest(queue); row !== 0; row = queues.nextInQueue(row)) rows.push(row)
  return rows
}

describe('the queues of recyclable connections', () => {
  it('have numbers of their own: closed and unreplied for each external address, one for all others', () => {
    const numbers = [0, 1].flatMap((external) => [queues.closedQueue(external), queues.unrepliedQueue(external)])
    expect(new Set([...numbers, queues.UNREPLIED_OTHERS, queues.CLOSED_OTHERS, 0]).size).toBe(7)
    expect(Math.max(...numbers)).toBeLessThan(queues.queueCount(EXTERNALS))
  })

  it('say which of them hold closed connections; no queue is none of them', () => {
    expect([0, 1].map((external) => queues.isClosedQueue(queues.closedQueue(external)))).toEqual([true, true])
    expect([0, 1].map((external) => queues.isClosedQueue(queues.unrepliedQueue(external)))).toEqual([false, false])
    expect(queues.isClosedQueue(queues.UNREPLIED_OTHERS)).toBe(false)
    expect(queues.isClosedQueue(queues.CLOSED_OTHERS)).toBe(true)
    expect(queues.isClosedQueue(0)).toBe(false)
  })

  it('equal arrays under random enqueue and dequeue; a row is in one at most', () => {
    const step = fc.record({ row: fc.integer({ min: 1, max: CAPACITY }), queue: fc.nat(5) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        queues.attachQueues(queues.queueCount(EXTERNALS))
        windows.fill(0)
        const model: number[][] = Array.from({ length: 6 }, () => [])
        for (const { row, queue } of steps) {
          for (const rows of model) if (rows.includes(row)) rows.splice(rows.indexOf(row), 1)
          if (queue === 0) queues.dequeue(row)
          else {
            queues.enqueue(row, queue)
            model[queue]!.push(row)
          }
          for (let each = 1; each < 6; each++) expect(rowsIn(each)).toEqual(model[each])
        }
      }),
    )
  })
})
