// 100,000 random packets from somebody outside who knows a live connection's addresses and ports, and none of its
// numbers: any flags, numbers, windows, options, lengths and checksums, fragments, and ICMP errors that quote it. A
// quarter of the sequence numbers are within the window, and as many of the acknowledgements. Meanwhile the connection
// goes on, stays what it is, and loses nothing. A random number falls into a window of 64 KB once in 65,536 times: what
// such luck would bring within both windows is not sent, and neither is the exact number of a reset.

import { expect, it } from 'vitest'
import { type FrameSpec, frame } from '../../src/testing/builder.ts'
import { type Random, randomOf } from '../helpers/mutations.ts'
import { flagLetters, type Kind, LiveConnection } from './live-connection.ts'
import { MAC } from './network.ts'
import { icmpError, tcpSegment } from './packets.ts'

const PACKETS = 100_000
const TALKS_EVERY = 1000
/** Farther than this from the connection's numbers, nothing is within a window. */
const REACH = 140_000
const WINDOW = 64_240
const SEED = Number(process.env.NLT_SEED ?? 5961)

const OPTIONS = [
  [],
  [2, 4, 0, 1],
  [3, 3, 14],
  [4, 2],
  [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
  [5, 10, 0, 0, 0, 1, 127, 255, 255, 255],
  [5, 9],
  [0],
].map((option) => Uint8Array.from(option))

/** How far a number is from the right one: within the window, or anywhere beyond it. */
function distance(random: Random): number {
  if (random(4) === 0) return random(2 * WINDOW) - WINDOW
  return REACH + random(2 ** 32 - 2 * REACH)
}

function madeUp(live: LiveConnection, random: Random): FrameSpec | Uint8Array {
  const [seq, ack] = [distance(random), distance(random)]
  let flags = random(256)
  const isReset = (flags & 4) !== 0
  const near = (number: number) => Math.abs(number | 0) <= REACH
  // A reset or SYN may be within the windows, if it isn't exact; of the others one number at most.
  const isLucky = near(seq) && (isReset ? seq === 0 : near(ack))
  if (isLucky) flags = random(2) === 0 ? 2 : 18
  const options = OPTIONS[random(OPTIONS.length)]!
  const payload = 'x'.repeat(random(3) === 0 ? random(1400) : 0)
  const spec = live.madeUp(flagLetters(flags), seq, ack, { tcp: { options, window: random(65536) }, payload })
  const way = random(10)
  if (way === 0) return damaged(spec, random)
  if (way === 1) return piece(spec, random, payload)
  if (way === 2) return quoting(live, random)
  return spec
}

/** One byte of it is another one, with addresses and ports left as they are: the checksums are wrong. */
function damaged(spec: FrameSpec, random: Random): Uint8Array {
  const bytes = frame({ eth: { src: MAC.server, dst: MAC.wan }, ...spec })
  bytes[50 + random(bytes.length - 50)]! ^= 1 + random(255)
  return bytes
}

/** A first fragment of it; a later one; or one that begins in its header. */
function piece(spec: FrameSpec, random: Random, payload: string): FrameSpec {
  const ip = { ...spec.ip, id: random(64) }
  if (random(2) === 0)
    return { ...spec, ip: { ...ip, moreFragments: true }, payload: payload.slice(payload.length % 8) }
  const fragmentOffset = 8 * (1 + random(100))
  return {
    ip: { ...ip, fragmentOffset, moreFragments: random(2) === 0 },
    protocol: { number: 6 },
    payload: `${payload}x`,
  }
}

/** An ICMP error about a segment of the inside end, with a number at random. */
function quoting(live: LiveConnection, random: Random): FrameSpec {
  const { from, to } = live.dialogue.outside
  const seq = (live.outside.ack + distance(random)) >>> 0
  const quoted = frame(tcpSegment(to, from, flagLetters(random(64)), { tcp: { seq, ack: random(2 ** 32) } }))
  const [type, code] = [[3, 11, 12, 4, 5][random(5)]!, random(16)]
  const router = from.split(':')[0]!
  return icmpError(router, to.split(':')[0]!, quoted, {
    icmp: { type, code, mtu: random(1500) },
    bytes: 28 + random(13),
  })
}

const KINDS: readonly Kind[] = ['from inside', 'from inside, helped', 'to a forward, helped']

it.each(KINDS)(`100,000 random packets change nothing of a connection %s (seed ${SEED})`, async (kind) => {
  const random = randomOf(SEED)
  const live = (await LiveConnection.begin(kind)).reach('ESTABLISHED')
  const { gateway } = live.dialogue
  gateway.verifiesTransport = false
  for (let n = 0; n < PACKETS; n += TALKS_EVERY) {
    gateway.pass(5)
    const { known } = live
    for (let k = 0; k < TALKS_EVERY; k++) gateway.outside(madeUp(live, random))
    expect(live.known).toEqual(known)
    live.talk()
    expect(live.row).toMatchObject({ state: 'ESTABLISHED', timeout: 7440, lastSeen: Math.floor(gateway.clock / 1000) })
  }
  live.goesOn()
})
