// IPv4, RFC 791 (with RFC 1141 and 1624 for the checksum, RFC 6864 for the identification). Every function takes the
// memory a packet lies in and where its IPv4 header begins. Addresses and checksums are as loaded, all else is in
// numeric order. The driver owns a packet's memory; the shard that received it may write to it until it releases it.

import type { Addr, ProtocolNumber } from './address.ts'
import { fold } from './ones-complement.ts'

const VERSION_LENGTH = 0
const TOS = 1
const TOTAL_LENGTH = 2
const ID = 4
const FRAGMENT = 6
const TTL = 8
const PROTOCOL = 9
const CHECKSUM = 10
const SRC = 12
const DST = 16
export const MIN_HEADER_LEN = 20

export const PROTO_ICMP = 1
export const PROTO_TCP = 6
export const PROTO_UDP = 17
export const PROTO_DCCP = 33
export const PROTO_GRE = 47
export const PROTO_ESP = 50
export const PROTO_UDPLITE = 136

/** Bits of the fragment word: two flags (a third one is reserved) and the offset, in units of eight bytes. */
export const DONT_FRAGMENT = 0x4000
export const MORE_FRAGMENTS = 0x2000
export const OFFSET_MASK = 0x1fff

/**
 * Whether header and packet lie before `end` and their lengths make sense; only then may the functions below be asked.
 * The packet path asks the same in its own order, because each answer is a drop reason of its own.
 */
export const fits = (mem: DataView, at: number, end: number): boolean =>
  end - at >= MIN_HEADER_LEN &&
  version(mem, at) === 4 &&
  headerLen(mem, at) >= MIN_HEADER_LEN &&
  headerLen(mem, at) <= totalLength(mem, at) &&
  totalLength(mem, at) <= end - at

/** The first byte: 0x45 is the usual one, version 4 and no options. */
export const versionAndLength = (mem: DataView, at: number): number => mem.getUint8(at + VERSION_LENGTH)
export const version = (mem: DataView, at: number): number => mem.getUint8(at + VERSION_LENGTH) >>> 4
/** In bytes, 0 to 60: below MIN_HEADER_LEN the header is malformed. */
export const headerLen = (mem: DataView, at: number): number => (mem.getUint8(at + VERSION_LENGTH) & 0xf) << 2
export const tos = (mem: DataView, at: number): number => mem.getUint8(at + TOS)
/** Header and payload in bytes. */
export const totalLength = (mem: DataView, at: number): number => mem.getUint16(at + TOTAL_LENGTH)
export const id = (mem: DataView, at: number): number => mem.getUint16(at + ID)
/** Flags and offset: DONT_FRAGMENT, MORE_FRAGMENTS, OFFSET_MASK. */
export const fragmentWord = (mem: DataView, at: number): number => mem.getUint16(at + FRAGMENT)
/** Whether this is a part of a packet, the first included. */
export const isFragment = (mem: DataView, at: number): boolean =>
  (fragmentWord(mem, at) & (MORE_FRAGMENTS | OFFSET_MASK)) !== 0
export const ttl = (mem: DataView, at: number): number => mem.getUint8(at + TTL)
export const protocol = (mem: DataView, at: number): ProtocolNumber => mem.getUint8(at + PROTOCOL)
/** As loaded. */
export const checksum = (mem: DataView, at: number): number => mem.getUint16(at + CHECKSUM, true)
export const src = (mem: DataView, at: number): Addr => mem.getInt32(at + SRC, true)
export const dst = (mem: DataView, at: number): Addr => mem.getInt32(at + DST, true)

// Setters leave the checksum as it is, except changeId, decrementTtl and restoreTtl.

/** Version 4 and a header length in bytes, a multiple of 4. */
export const setHeaderLen = (mem: DataView, at: number, length: number): void =>
  mem.setUint8(at + VERSION_LENGTH, 0x40 | (length >>> 2))
export const setTos = (mem: DataView, at: number, value: number): void => mem.setUint8(at + TOS, value)
export const setTotalLength = (mem: DataView, at: number, length: number): void =>
  mem.setUint16(at + TOTAL_LENGTH, length)
export const setId = (mem: DataView, at: number, value: number): void => mem.setUint16(at + ID, value)
export const setFragmentWord = (mem: DataView, at: number, word: number): void => mem.setUint16(at + FRAGMENT, word)
export const setTtl = (mem: DataView, at: number, value: number): void => mem.setUint8(at + TTL, value)
export const setProtocol = (mem: DataView, at: number, value: ProtocolNumber): void =>
  mem.setUint8(at + PROTOCOL, value)
/** As loaded. */
export const setChecksum = (mem: DataView, at: number, value: number): void => mem.setUint16(at + CHECKSUM, value, true)
export const setSrc = (mem: DataView, at: number, address: Addr): void => mem.setInt32(at + SRC, address, true)
export const setDst = (mem: DataView, at: number, address: Addr): void => mem.setInt32(at + DST, address, true)

/** The folded sum of the header; a header of 20 bytes (nearly all) by five loads without a loop. */
function headerSum(mem: DataView, at: number): number {
  const a = mem.getInt32(at, true)
  const b = mem.getInt32(at + 4, true)
  const c = mem.getInt32(at + 8, true)
  const d = mem.getInt32(at + 12, true)
  const e = mem.getInt32(at + 16, true)
  const low = (a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff) + (e & 0xffff)
  const high = (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16) + (e >>> 16)
  return fold((a & 0xf) === 5 ? low + high : low + high + optionsSum(mem, at))
}

function optionsSum(mem: DataView, at: number): number {
  const end = at + headerLen(mem, at)
  let sum = 0
  for (let i = at + MIN_HEADER_LEN; i < end; i += 4) {
    const word = mem.getInt32(i, true)
    sum += (word & 0xffff) + (word >>> 16)
  }
  return sum
}

/** Whether the header's checksum is right. */
export const headerOk = (mem: DataView, at: number): boolean => headerSum(mem, at) === 0xffff

/** Computes the checksum of a header whose other fields are set. */
export function writeChecksum(mem: DataView, at: number): void {
  setChecksum(mem, at, 0)
  setChecksum(mem, at, ~headerSum(mem, at) & 0xffff)
}

/** Sets the identification and repairs the checksum by RFC 1624. A wrong checksum stays wrong. */
export function changeId(mem: DataView, at: number, value: number): void {
  const old = mem.getUint16(at + ID, true)
  setId(mem, at, value)
  const sum = (~checksum(mem, at) & 0xffff) + (~old & 0xffff) + mem.getUint16(at + ID, true)
  setChecksum(mem, at, ~fold(sum) & 0xffff)
}

/**
 * Lowers the TTL by one and repairs the checksum. As loaded, TTL is the low byte of its 16-bit word, so the word falls
 * by one and RFC 1624's ~m + m' is 0xfffe. A TTL of 0 must not come here: the borrow would run into the protocol.
 */
export function decrementTtl(mem: DataView, at: number): void {
  const word = mem.getInt32(at + TTL, true)
  const sum = (~word >>> 16) + 0xfffe
  const folded = (sum & 0xffff) + (sum >>> 16)
  mem.setInt32(at + TTL, (~folded << 16) | ((word & 0xffff) - 1), true)
}

/** Undoes decrementTtl: the word rises by one, and ~m + m' is 1. */
export function restoreTtl(mem: DataView, at: number): void {
  const word = mem.getInt32(at + TTL, true)
  const sum = (~word >>> 16) + 1
  const folded = (sum & 0xffff) + (sum >>> 16)
  mem.setInt32(at + TTL, (~folded << 16) | ((word & 0xffff) + 1), true)
}

// --- options ---

const OPTION_END = 0
const OPTION_NOP = 1
/** The copied bit of an option's kind: it belongs into every fragment. */
const OPTION_COPIED = 0x80
const OPTION_LSRR = 0x83
const OPTION_SSRR = 0x89

/** Whether options are malformed or ask for source routing, which a router may refuse (RFC 7126 4.3, 4.4). */
export function optionsFault(mem: DataView, at: number): boolean {
  const end = at + headerLen(mem, at)
  let i = at + MIN_HEADER_LEN
  while (i < end) {
    const kind = mem.getUint8(i)
    if (kind === OPTION_END) return false
    if (kind === OPTION_NOP) {
      i++
      continue
    }
    if (kind === OPTION_LSRR || kind === OPTION_SSRR || i + 2 > end) return true
    const length = mem.getUint8(i + 1)
    if (length < 2 || i + length > end) return true
    i += length
  }
  return false
}

/**
 * Writes after the fixed header at `to` the options of the header at `from` that belong into every fragment (RFC 791
 * 3.1: those with the copied bit), padded with zeros to a multiple of four bytes. Returns the header length that the
 * later fragments have. Options have passed optionsFault; `from` and `to` may be equal. Nothing else is written.
 */
export function copiedOptions(mem: DataView, from: number, to: number): number {
  const end = from + headerLen(mem, from)
  let out = to + MIN_HEADER_LEN
  let i = from + MIN_HEADER_LEN
  while (i < end) {
    const kind = mem.getUint8(i)
    if (kind === OPTION_END) break
    const length = kind === OPTION_NOP ? 1 : mem.getUint8(i + 1)
    if (kind & OPTION_COPIED) for (let j = 0; j < length; j++) mem.setUint8(out++, mem.getUint8(i + j))
    i += length
  }
  while ((out - to) & 3) mem.setUint8(out++, OPTION_END)
  return out - to
}
