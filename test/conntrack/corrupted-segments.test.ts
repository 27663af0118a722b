// Segments that a link has damaged: their checksum is wrong. One that would change no more than the windows goes on,
// for its receiver to drop, and the windows believe it. Measured here: whatever numbers it has, no right segment is
// dropped because of it, and the connection is what it was.

import { describe, expect, it } from 'vitest'
import { transportChecksumOk } from '../../src/wire/checksum.ts'
import * as ethernet from '../../src/wire/ethernet.ts'
import { Gateway } from '../datapath/gateway.ts'
import { connectionsOf } from '../datapath/tables.ts'
import { type Random, randomOf } from '../helpers/mutations.ts'
import { connect, Endpoint, LARGEST, type Offer } from '../oracle/endpoint.ts'
import { FIRST_PORT, frameOf } from '../oracle/frames.ts'
import { parseSequence, type Segment } from '../oracle/script.ts'

const SEED = Number(process.env.NLT_SEED ?? 8)
const SEGMENTS = 5000
/** After so many the connection is looked at. */
const OFTEN = 100
const SEQUENCE = parseSequence('damaged', 'open inside isn 4294960000 5000')
/** Behind the ports: a segment with others is another connection's. */
const FROM = 38

const OFFERS: readonly (readonly [title: string, Offer])[] = [
  ['large windows', { wscale: 7, sackOK: true, window: 65535, timestamps: false }],
  ['windows of 64 KB', { wscale: undefined, sackOK: true, window: 65535, timestamps: true }],
  ['small windows', { wscale: undefined, sackOK: false, window: 3000, timestamps: false }],
  ['a window of two bytes', { wscale: 0, sackOK: false, window: 2, timestamps: false }],
]

/** A copy with one to three wrong bits, which the checksum shows: two may make good for each other. */
function damaged(frame: Uint8Array, random: Random): Uint8Array {
  const copy = frame.slice()
  for (let i = random(3); i >= 0; i--) copy[FROM + random(copy.length - FROM)]! ^= 1 << random(8)
  const isShown = !transportChecksumOk(new DataView(copy.buffer), ethernet.HEADER_LEN)
  return isShown ? copy : damaged(frame, random)
}

function nextOf(end: Endpoint, random: Random): Segment {
  const room = end.allowed - end.next
  if (room <= 0 || random(3) === 0) return end.ack()
  if (end.acked < end.next && random(8) === 0) return end.again(Math.min(LARGEST, end.next - end.acked))
  return end.data(Math.min(room, 1 + random(LARGEST)))
}

describe('a damaged copy of every segment', () => {
  for (const [title, offer] of OFFERS)
    it(`has no right one dropped: ${title}`, async () => {
      const gateway = await Gateway.start({
        ports: [FIRST_PORT, FIRST_PORT + 1023],
        nat: { preservePorts: true, parity: false, filtering: 'address-and-port-dependent' },
      })
      gateway.verifiesTransport = false
      const random = randomOf(SEED)
      const [c, s] = [new Endpoint('c', offer), new Endpoint('s', offer)]
      connect(c, s)
      const states = () => connectionsOf(gateway.tables).map(({ state }) => state)
      let damages = 0
      const say = (end: Endpoint, segment: Segment): void => {
        const frame = frameOf(SEQUENCE, segment, 0, 0)
        const send = (bytes: Uint8Array) => (end === c ? gateway.inside(bytes) : gateway.outside(bytes))
        damages += send(damaged(frame, random)).length
        const dropped = send(frame).length === 0
        if (dropped)
          throw new Error(`segment ${JSON.stringify(segment)} was dropped: ${JSON.stringify(gateway.drops())}`)
        end.hasSent(segment)
        end.peer!.hasReceived(segment)
      }
      say(c, c.syn())
      say(s, s.synAck())
      say(c, c.ack())
      for (const end of [c, s]) end.allowed = end.next + offer.window
      for (let i = 0; i < SEGMENTS; i++) {
        const end = random(2) === 0 ? c : s
        say(end, nextOf(end, random))
        if (i % OFTEN === 0) expect(states()).toEqual(['ESTABLISHED'])
      }
      // Many of the damaged ones went on, or this shows nothing.
      expect(damages).toBeGreaterThan(SEGMENTS / 4)
      for (const end of [c, s]) say(end, end.fin(0))
      say(c, c.ack())
      expect(states()).toEqual(['TIME_WAIT'])
      gateway.check()
    })
})
