// Frames as the fuzzer builds them: fast, and with whatever is said in their headers. Lengths and checksums are right;
// what is to be wrong is made so afterwards (mutations.ts).

import { ICMP, IP, internetChecksum, setLong, setWord, TCP, UDP } from '../datapath/reference-packet.ts'
import type { Segment } from '../oracle/script.ts'

const address = (text: string): number => text.split('.').reduce((number, octet) => number * 256 + Number(octet), 0)
export const ADDRESS = {
  host: address('10.0.0.5'),
  other: address('10.0.0.6'),
  lan: address('10.0.0.1'),
  external: address('203.0.113.1'),
  server: address('192.0.2.7'),
  second: address('198.51.100.9'),
  router: address('203.0.113.254'),
  /** It does not answer ARP. */
  silent: address('203.0.113.9'),
  third: address('172.16.0.9'),
  broadcast: address('10.0.0.255'),
} as const

/** Ethernet headers of what comes by the LAN, and from outside (test/datapath/network.ts). */
const ETHERNET = [
  [2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 5, 8, 0],
  [2, 0, 0, 0, 2, 1, 2, 0, 0, 0, 2, 0xfe, 8, 0],
] as const

export interface Where {
  readonly side: 0 | 1
  readonly src: number
  readonly dst: number
  readonly id: number
}

/** A frame with room for so many bytes behind its IPv4 header. */
function begin({ side, src, dst, id }: Where, protocol: number, length: number): Uint8Array {
  const frame = new Uint8Array(IP + 20 + length)
  frame.set(ETHERNET[side])
  frame[IP] = 0x45
  setWord(frame, IP + 2, 20 + length)
  setWord(frame, IP + 4, id)
  frame[IP + 8] = 64
  frame[IP + 9] = protocol
  setLong(frame, IP + 12, src)
  setLong(frame, IP + 16, dst)
  writeHeaderChecksum(frame)
  return frame
}

export function writeHeaderChecksum(frame: Uint8Array): void {
  const end = IP + (frame[IP]! & 15) * 4
  if (end > frame.length) return
  setWord(frame, IP + 10, 0)
  setWord(frame, IP + 10, internetChecksum(frame, IP, end))
}

const CHECKSUM_AT: Readonly<Record<number, number>> = { [TCP]: 16, [UDP]: 6, [ICMP]: 2, 136: 6, 33: 6 }

/** The transport checksum of a packet that is no fragment, as far as there is one. */
export function writeTransportChecksum(frame: Uint8Array): void {
  const l4 = IP + (frame[IP]! & 15) * 4
  const at = CHECKSUM_AT[frame[IP + 9]!]
  if (at === undefined || l4 + at + 2 > frame.length) return
  const length = frame.length - l4
  const words = [12, 14, 16, 18].reduce((sum, i) => sum + (frame[IP + i]! << 8) + frame[IP + i + 1]!, 0)
  const pseudo = frame[IP + 9] === ICMP ? 0 : words + frame[IP + 9]! + length
  setWord(frame, l4 + at, 0)
  const sum = internetChecksum(frame, l4, frame.length, pseudo)
  setWord(frame, l4 + at, sum === 0 && frame[IP + 9] === UDP ? 0xffff : sum)
}

const NOP = 1
const FLAG: Readonly<Record<string, number>> = { F: 1, S: 2, R: 4, P: 8, A: 16, U: 32, E: 64, W: 128 }

/** `seq`, `ack` and `edge` (what SACK blocks are counted from) are numbers on the wire. */
export function tcpFrame(
  where: Where,
  ports: readonly [number, number],
  made: Segment,
  { seq, ack, edge }: { readonly seq: number; readonly ack: number; readonly edge: number },
  data: string,
): Uint8Array {
  const options = optionsOf(made, edge)
  const header = 20 + options.length
  const length = data === '' ? made.length : data.length
  const frame = begin(where, TCP, header + length)
  const l4 = IP + 20
  setWord(frame, l4, ports[0])
  setWord(frame, l4 + 2, ports[1])
  setLong(frame, l4 + 4, seq)
  setLong(frame, l4 + 8, ack)
  frame[l4 + 12] = (made.dataOffset || header / 4) << 4
  let flags = 0
  for (const letter of made.flags) flags |= FLAG[letter]!
  frame[l4 + 13] = flags
  setWord(frame, l4 + 14, made.window)
  setWord(frame, l4 + 18, made.urgent)
  frame.set(options, l4 + 20)
  const at = l4 + header
  if (data === '') frame.fill(0x61, at)
  else for (let i = 0; i < length; i++) frame[at + i] = data.charCodeAt(i)
  writeTransportChecksum(frame)
  if (made.badChecksum) frame[l4 + 16]! ^= 0x55
  return frame
}

const NONE = new Uint8Array(0)

function optionsOf({ options: { mss, wscale, sackOK, timestamps, sack } }: Segment, base: number): Uint8Array {
  if (mss === undefined && wscale === undefined && !sackOK && !timestamps && !sack) return NONE
  const bytes: number[] = []
  if (mss !== undefined) bytes.push(2, 4, mss >> 8, mss & 255)
  if (sackOK) bytes.push(NOP, NOP, 4, 2)
  if (timestamps) bytes.push(NOP, NOP, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2)
  if (wscale !== undefined) bytes.push(NOP, 3, 3, wscale)
  if (sack) {
    bytes.push(NOP, NOP, 5, 2 + 8 * sack.length)
    for (const edge of sack.flat()) {
      const word = (base + edge) >>> 0
      bytes.push(word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255)
    }
  }
  return Uint8Array.from(bytes)
}

export function udpFrame(where: Where, ports: readonly [number, number], length: number, hasChecksum = true) {
  const frame = begin(where, UDP, 8 + length)
  const l4 = IP + 20
  setWord(frame, l4, ports[0])
  setWord(frame, l4 + 2, ports[1])
  setWord(frame, l4 + 4, 8 + length)
  for (let i = 0; i < length; i++) frame[l4 + 8 + i] = (i * 29 + where.id) & 0xff
  if (hasChecksum) writeTransportChecksum(frame)
  return frame
}

/** A query, or the answer to one. */
export function icmpFrame(where: Where, type: number, identifier: number, length: number): Uint8Array {
  const frame = begin(where, ICMP, 8 + length)
  const l4 = IP + 20
  frame[l4] = type
  setWord(frame, l4 + 4, identifier)
  setWord(frame, l4 + 6, 1)
  writeTransportChecksum(frame)
  return frame
}

/** An error about a packet, which is quoted from its IPv4 header on as far as `quoted` reaches. */
export function icmpErrorFrame(where: Where, type: number, code: number, quoted: Uint8Array): Uint8Array {
  const frame = begin(where, ICMP, 8 + quoted.length)
  const l4 = IP + 20
  frame[l4] = type
  frame[l4 + 1] = code
  frame.set(quoted, l4 + 8)
  writeTransportChecksum(frame)
  return frame
}

/** Of a protocol without ports; UDP-Lite and DCCP have a checksum all the same. */
export function portlessFrame(where: Where, protocol: number, length: number): Uint8Array {
  const frame = begin(where, protocol, Math.max(16, length))
  frame.fill(0x11, IP + 20)
  if (protocol === 33) [frame[IP + 24], frame[IP + 25]] = [4, 0]
  if (protocol === 136) setWord(frame, IP + 24, 0)
  writeTransportChecksum(frame)
  return frame
}

/** Cut into fragments: each but the last has `size` bytes, a multiple of 8, behind its header. */
export function cut(whole: Uint8Array, size: number): Uint8Array[] {
  const pieces: Uint8Array[] = []
  const l4 = IP + 20
  for (let at = l4; at < whole.length; at += size) {
    const end = Math.min(at + size, whole.length)
    const piece = new Uint8Array(l4 + end - at)
    piece.set(whole.subarray(0, l4))
    piece.set(whole.subarray(at, end), l4)
    setWord(piece, IP + 2, 20 + end - at)
    setWord(piece, IP + 6, ((at - l4) >> 3) | (end < whole.length ? 0x2000 : 0))
    writeHeaderChecksum(piece)
    pieces.push(piece)
  }
  return pieces
}
