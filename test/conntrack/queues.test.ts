// First-in first-out queues threaded through the table, against plain arrays.

import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { ASSURED, EXPECTED, SEEN_REPLY, TCP_STATE_SHIFT } from '../../src/conntrack/connection-table.ts'
import { TCP_STATES, type TcpState } from '../../src/conntrack/tcp-state.ts'
import { type AttachedTables, attachTables } from './attached-tables.ts'

const CAPACITY = 12

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

const TCP = 6
const UDP = 17
const FROM_OUTSIDE = 1 << 8
const word = (protocol: number, state: TcpState = 'NONE', flags = 0): number =>
  protocol | (TCP_STATES.indexOf(state) << TCP_STATE_SHIFT) | flags

describe('the queues of recyclable connections', () => {
  const belong = [
    // a connection                                     its queue
    ['UDP without an answer', word(UDP), 'unassured'],
    ['UDP that was answered once', word(UDP, 'NONE', SEEN_REPLY), 'unassured'],
    ['assured UDP', word(UDP, 'NONE', SEEN_REPLY | ASSURED), 'none'],
    ['a SYN', word(TCP, 'SYN_SENT'), 'unassured'],
    ['a SYN from either end', word(TCP, 'SYN_SENT2', SEEN_REPLY), 'unassured'],
    ['a SYN/ACK that nobody has acknowledged', word(TCP, 'SYN_RECV', SEEN_REPLY), 'unassured'],
    ['a handshake that ends by a FIN', word(TCP, 'FIN_WAIT', SEEN_REPLY), 'unassured'],
    ['one picked up, without an answer', word(TCP, 'ESTABLISHED'), 'unassured'],
    ['an established one', word(TCP, 'ESTABLISHED', SEEN_REPLY | ASSURED), 'none'],
    ['one that an end has closed', word(TCP, 'FIN_WAIT', SEEN_REPLY | ASSURED), 'half-closed'],
    ['the same, acknowledged', word(TCP, 'CLOSE_WAIT', SEEN_REPLY | ASSURED), 'half-closed'],
    ['one that both have closed', word(TCP, 'LAST_ACK', SEEN_REPLY | ASSURED), 'closed'],
    ['the same, acknowledged by both', word(TCP, 'TIME_WAIT', SEEN_REPLY | ASSURED), 'closed'],
    ['one that was reset', word(TCP, 'CLOSE', SEEN_REPLY | ASSURED), 'closed'],
    ['one that was reset while it opened', word(TCP, 'CLOSE', SEEN_REPLY), 'closed'],
  ] as const
  for (const [what, of, kind] of belong)
    it(`${what}: ${kind}; from outside in a queue beside it, unless it was announced`, () => {
      const number = { none: 0, closed: queues.CLOSED, unassured: queues.UNASSURED, 'half-closed': queues.HALF_CLOSED }
      const mapping = 1
      expect(queues.queueFor(of, mapping)).toBe(number[kind])
      expect(queues.queueFor(of | FROM_OUTSIDE | EXPECTED, mapping)).toBe(number[kind])
      const outside = kind === 'none' ? 0 : number[kind] + queues.FROM_OUTSIDE
      expect(queues.queueFor(of | FROM_OUTSIDE, mapping)).toBe(outside)
      expect(queues.kindOf(outside)).toBe(number[kind])
    })

  it('assured UDP from outside, without a mapping: renewable; from inside, or announced, or of TCP: none', () => {
    const of = word(UDP, 'NONE', SEEN_REPLY | ASSURED)
    expect(queues.queueFor(of | FROM_OUTSIDE, 0)).toBe(queues.RENEWABLE + queues.FROM_OUTSIDE)
    expect([of, of | FROM_OUTSIDE | EXPECTED].map((each) => queues.queueFor(each, 0))).toEqual([0, 0])
    expect(queues.queueFor(word(TCP, 'ESTABLISHED', SEEN_REPLY | ASSURED | FROM_OUTSIDE), 0)).toBe(0)
  })

  it('equal arrays under random enqueue and dequeue; a row is in one at most', () => {
    const step = fc.record({ row: fc.integer({ min: 1, max: CAPACITY }), queue: fc.nat(5) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        queues.attachQueues()
        windows.fill(0)
        const model: number[][] = Array.from({ length: 6 }, () => [])
        for (const { row, queue } of steps) {
          for (const rows of model) if (rows.includes(row)) rows.splice(rows.indexOf(row), 1)
          if (queue === 0) queues.dequeue(row)
          else {
            queues.enqueue(row, queue)
            model[queue]!.push(row)
          }
          for (let each = 1; each < 6; each++) {
            expect(rowsIn(each)).toEqual(model[each])
            expect(queues.lengthOf(each)).toBe(model[each]!.length)
          }
        }
      }),
    )
  })
})
