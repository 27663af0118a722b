// Fragments of one datagram in any sequence, and what must come of them: a reference that reassembles what arrives, as
// RFC 791 3.2 and RFC 5722 say, and a receiver that does so with what has left.

import { expect } from 'vitest'
import { type EthernetSpec, type FrameSpec, fragments, frame } from '../../../src/testing/builder.ts'
import { HOST, MAC, SERVER } from '../network.ts'
import { decode, udp } from '../packets.ts'
import { Reassembly } from './reassembly.ts'

export const SIZE = 64
export const PIECES = 5
/** Five fragments, the last of an odd length. */
const payload = Uint8Array.from({ length: PIECES * SIZE - 8 - 13 }, (_, i) => (i * 29 + 7) & 0xff)
const FROM_LAN: EthernetSpec = { src: MAC.host, dst: MAC.lan }

export const from = `${HOST}:5000`

/** The datagram's fragments in order. */
export const pieces = (id: number, spec: FrameSpec = udp(from, `${SERVER}:53`), eth = FROM_LAN): Uint8Array[] =>
  fragments(frame({ eth, ...spec, ip: { ...spec.ip, id }, payload }), SIZE)

/** A fragment of the same datagram that none of its sender's is. */
export const intruder = (id: number, offset: number, length: number, more: boolean): Uint8Array =>
  frame({
    eth: FROM_LAN,
    ip: { src: HOST, dst: SERVER, id, fragmentOffset: offset, moreFragments: more },
    protocol: { number: 17 },
    payload: new Uint8Array(length).fill(0xee),
  })

/** What overlaps or contradicts some fragment of the datagram: offset, length, whether more follow. */
export const INTRUDERS = [
  ['a piece over the border of two', SIZE + 32, SIZE, true],
  ['a piece of twice the length', 2 * SIZE, 2 * SIZE, true],
  ['a piece beyond the end', PIECES * SIZE, 8, true],
  ['another end', PIECES * SIZE - 8, 32, false],
  ['an end in the middle', 3 * SIZE, 8, false],
  ['a first piece over two', 0, SIZE + 8, true],
] as const

export function* permutations<T>(items: readonly T[]): Generator<T[]> {
  if (items.length === 0) yield []
  for (const [i, item] of items.entries())
    for (const rest of permutations([...items.slice(0, i), ...items.slice(i + 1)])) yield [item, ...rest]
}

/** The sequence with an item at each place. */
export const inserted = <T>(sequence: readonly T[], item: T): T[][] =>
  Array.from({ length: sequence.length + 1 }, (_, at) => [...sequence.slice(0, at), item, ...sequence.slice(at)])

/** Reassembles what has left, by what a receiver tells datagrams apart by; the complete ones' bodies. */
export function received(sent: readonly Uint8Array[]): number[][] {
  const datagrams = new Map<string, Reassembly>()
  for (const each of sent.map(decode)) {
    const name = [each.src, each.dst, each.protocol, each.id].join()
    if (!datagrams.has(name)) datagrams.set(name, new Reassembly())
    datagrams.get(name)!.add(each)
  }
  return [...datagrams.values()].flatMap(({ body }) => (body ? [body] : []))
}

/**
 * Sends a sequence of fragments; a receiver gets the datagram if, and only if, the reference does, and the same one: an
 * intruder's bytes are in it where they took the place of all of a fragment's. Behind the ports nothing differs but the
 * checksum.
 */
export function expectAsReference(sequence: readonly Uint8Array[], send: (piece: Uint8Array) => Uint8Array[]): void {
  const reference = new Reassembly()
  for (const piece of sequence) reference.add(decode(piece))
  const got = received(sequence.flatMap((piece) => send(piece)))
  expect(got.map((body) => body.slice(8))).toEqual(reference.body ? [reference.body.slice(8)] : [])
}
