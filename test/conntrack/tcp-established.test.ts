// The short way that the commonest segments take (tcp-established.shard.ts) against the whole one: the same random
// segments through two gateways, of which one may not take it, since it shortens timeouts of assured connections. What
// comes of each segment, the row and what is known of both windows must be the same.

import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { WINDOW, WINDOW_WORDS } from '../../src/conntrack/tcp-window-table.ts'
import type { TcpSpec } from '../../src/testing/builder.ts'
import { tcpSegment } from '../datapath/packets.ts'
import { CLIENT, PEER, ScriptedConnection } from './scripted-connection.ts'

const TIMESTAMPS = Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2)
const SACK = Uint8Array.of(1, 1, 5, 10, 0, 0, 0x20, 0, 0, 0, 0x30, 0)
const SYN_OPTIONS = Uint8Array.of(4, 2, 1, 3, 3, 2)

const WHOLE = { tcpShortensAssured: true, tcpRetransmission: 7440, tcpUnacknowledged: 7440 }
const NUMBERS = [
  'end',
  'endReply',
  'maxEnd',
  'maxEndReply',
  'maxWindow',
  'maxWindowReply',
  'maxAck',
  'maxAckReply',
] as const

interface Step {
  readonly fromClient: boolean
  readonly flags: string
  readonly bytes: number
  /** What is added to the numbers that an orderly end would have. */
  readonly ahead: number
  readonly acksAhead: number
  readonly window: number
  readonly options: Uint8Array
}

const mostly = (usual: fc.Arbitrary<number>, ...others: readonly number[]): fc.Arbitrary<number> =>
  fc.oneof({ weight: 6, arbitrary: usual }, { weight: 1, arbitrary: fc.constantFrom(...others) })

const step: fc.Arbitrary<Step> = fc.record({
  fromClient: fc.boolean(),
  flags: fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom('A', 'PA') },
    { weight: 1, arbitrary: fc.constantFrom('FA', 'R', 'S', 'SA', 'RA', 'UA') },
  ),
  bytes: fc.constantFrom(0, 0, 1, 1400),
  ahead: mostly(fc.constant(0), -1, -1400, 1400, 70_000, -70_000, 300_000, 2 ** 31),
  acksAhead: mostly(fc.constant(0), -1, -1400, 1400, -70_000, -300_000, 2 ** 31),
  window: mostly(fc.constant(400), 0, 1, 16_000),
  options: fc.constantFrom(new Uint8Array(0), TIMESTAMPS, SACK),
})

const known = ({ gateway, connection: { timeout: _, ...row } }: ScriptedConnection): object => {
  const { windows } = gateway.tables.connections
  const numbers = NUMBERS.map((name) => windows[row.row * WINDOW_WORDS + WINDOW[name]])
  return { ...row, numbers, drops: gateway.drops() }
}

describe('a segment of an assured connection', () => {
  it('is judged alike, and leaves the same, whichever way it takes', async () => {
    const syn: Partial<TcpSpec> = { options: SYN_OPTIONS, seq: 2 ** 32 - 5000, window: 1600 }
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        const both = [await ScriptedConnection.begin({}, syn), await ScriptedConnection.begin({ timeouts: WHOLE }, syn)]
        // What each end sends next: the client's, the server's.
        const next = [(2 ** 32 - 5000 + 1) | 0, 7001]
        const send = (fromClient: boolean, flags: string, more: Partial<TcpSpec>, bytes = 0): boolean => {
          const arrived = both.map(({ gateway, external }) => {
            const rest = { payload: 'x'.repeat(bytes), tcp: more }
            const sent = fromClient
              ? gateway.inside(tcpSegment(CLIENT, PEER, flags, rest))
              : gateway.outside(tcpSegment(PEER, external, flags, rest))
            return sent.length > 0
          })
          expect(arrived[0]).toBe(arrived[1])
          return arrived[0]!
        }
        send(false, 'SA', { seq: 7000, ack: next[0]! >>> 0, window: 1600, options: SYN_OPTIONS })
        send(true, 'A', { seq: next[0]! >>> 0, ack: next[1]!, window: 400 })
        for (const { fromClient, flags, bytes, ahead, acksAhead, window, options } of steps) {
          const [mine, theirs] = fromClient ? [0, 1] : [1, 0]
          const numbers = { seq: (next[mine]! + ahead) >>> 0, ack: (next[theirs]! + acksAhead) >>> 0, window, options }
          const went = send(fromClient, flags, numbers, bytes)
          if (went && ahead === 0 && /^P?A$/.test(flags)) next[mine] = (next[mine]! + bytes) | 0
          for (const { gateway } of both) gateway.pass(1)
          expect(known(both[0]!)).toEqual(known(both[1]!))
        }
      }),
      { numRuns: 40 },
    )
  })
})
