// TCP, RFC 9293, with the options of RFC 7323 (window scale, timestamps) and RFC 2018 (SACK). Every function takes the
// memory a packet lies in and where its TCP header begins. The checksum and the word of ports are as loaded, all else
// is in numeric order. Sequence numbers are signed: compare them by the sign of (a - b) | 0, print them by >>> 0.

import { type PortHost, type Ports, swap16 } from './address.ts'
import { applyDelta, delta16, delta32 } from './checksum.ts'

const SRC_PORT = 0
const DST_PORT = 2
const SEQ = 4
const ACK_NUMBER = 8
const DATA_OFFSET = 12
const FLAGS = 13
const WINDOW = 14
const CHECKSUM = 16
const URGENT = 18
export const MIN_HEADER_LEN = 20

export const FIN = 0x01
export const SYN = 0x02
export const RST = 0x04
export const PSH = 0x08
export const ACK = 0x10
export const URG = 0x20
export const ECE = 0x40
export const CWR = 0x80

/** No function below reads past `end` if this is true. Ask once, before any of them. */
export const fits = (mem: DataView, at: number, end: number): boolean =>
  end - at >= MIN_HEADER_LEN && headerLen(mem, at) >= MIN_HEADER_LEN && headerLen(mem, at) <= end - at

/** Both ports as loaded: the source in the low half, network byte order within. */
export const ports = (mem: DataView, at: number): Ports => mem.getInt32(at + SRC_PORT, true)
export const srcPort = (mem: DataView, at: number): PortHost => mem.getUint16(at + SRC_PORT)
export const dstPort = (mem: DataView, at: number): PortHost => mem.getUint16(at + DST_PORT)
export const seq = (mem: DataView, at: number): number => mem.getInt32(at + SEQ)
export const ack = (mem: DataView, at: number): number => mem.getInt32(at + ACK_NUMBER)
/** In bytes, 0 to 60: below MIN_HEADER_LEN the header is malformed. */
export const headerLen = (mem: DataView, at: number): number => (mem.getUint8(at + DATA_OFFSET) >>> 2) & 0x3c
/** The eight flags from FIN to CWR. */
export const flags = (mem: DataView, at: number): number => mem.getUint8(at + FLAGS)
/** As sent: unscaled. */
/** The header's length in 32-bit words in the four highest bits, the flags in the eight lowest. */
export const lengthAndFlags = (mem: DataView, at: number): number => mem.getUint16(at + DATA_OFFSET)
export const window = (mem: DataView, at: number): number => mem.getUint16(at + WINDOW)
/** As loaded. */
export const checksum = (mem: DataView, at: number): number => mem.getUint16(at + CHECKSUM, true)
export const urgent = (mem: DataView, at: number): number => mem.getUint16(at + URGENT)

// Setters leave the checksum as it is.
export const setPorts = (mem: DataView, at: number, word: Ports): void => mem.setInt32(at + SRC_PORT, word, true)
export const setSeq = (mem: DataView, at: number, value: number): void => mem.setInt32(at + SEQ, value)
export const setAck = (mem: DataView, at: number, value: number): void => mem.setInt32(at + ACK_NUMBER, value)
/** In bytes, a multiple of 4. */
export const setHeaderLen = (mem: DataView, at: number, length: number): void =>
  mem.setUint8(at + DATA_OFFSET, length << 2)
export const setFlags = (mem: DataView, at: number, value: number): void => mem.setUint8(at + FLAGS, value)
export const setWindow = (mem: DataView, at: number, value: number): void => mem.setUint16(at + WINDOW, value)
export const setChecksum = (mem: DataView, at: number, value: number): void => mem.setUint16(at + CHECKSUM, value, true)
export const setUrgent = (mem: DataView, at: number, value: number): void => mem.setUint16(at + URGENT, value)

/** Repairs the checksum after a change of the data, by what its sum gained (checksum.ts). */
export const adjustChecksum = (mem: DataView, at: number, delta: number): void =>
  setChecksum(mem, at, applyDelta(checksum(mem, at), delta))

/**
 * Changes a word of the header and repairs the checksum. With `partial` the checksum field holds the sum of the
 * pseudo-header only and stays as it is.
 */
function change(mem: DataView, at: number, field: number, value: number, partial: boolean): void {
  const old = mem.getInt32(field, true)
  mem.setInt32(field, value)
  if (partial) return
  const delta = delta32(old, mem.getInt32(field, true))
  // At an odd distance from the header's start, bytes were summed the other way round.
  adjustChecksum(mem, at, (field - at) & 1 ? swap16(delta) : delta)
}

export const changeSeq = (mem: DataView, at: number, value: number, partial: boolean): void =>
  change(mem, at, at + SEQ, value, partial)
export const changeAck = (mem: DataView, at: number, value: number, partial: boolean): void =>
  change(mem, at, at + ACK_NUMBER, value, partial)

/**
 * Writes a header of 20 bytes. Both numbers, the window and the urgent pointer are zero, for the setters; the checksum
 * is zero, for writeTransportChecksum.
 */
export function emit(mem: DataView, at: number, srcPort: PortHost, dstPort: PortHost, flags: number): void {
  mem.setUint16(at + SRC_PORT, srcPort)
  mem.setUint16(at + DST_PORT, dstPort)
  setSeq(mem, at, 0)
  setAck(mem, at, 0)
  setHeaderLen(mem, at, MIN_HEADER_LEN)
  setFlags(mem, at, flags)
  setWindow(mem, at, 0)
  setChecksum(mem, at, 0)
  setUrgent(mem, at, 0)
}

// --- options ---

export const OPTION_END = 0
export const OPTION_NOP = 1
export const OPTION_MSS = 2
export const OPTION_WINDOW_SCALE = 3
export const OPTION_SACK_PERMITTED = 4
export const OPTION_SACK = 5
export const OPTION_TIMESTAMPS = 8

const MSS_LEN = 4
const WINDOW_SCALE_LEN = 3
/** RFC 7323 2.3: a larger shift counts as this one. */
const MAX_WINDOW_SCALE = 14

/** Whether an option has no length, or one below 2 or beyond the header. */
export const optionsFault = (mem: DataView, at: number): boolean => walk(mem, at, -1) < 0

/** Where the first option of this kind begins (its kind byte), or 0: none, or the options before it are malformed. */
export const findOption = (mem: DataView, at: number, kind: number): number => Math.max(0, walk(mem, at, kind))

/** The option of this kind, 0 if there is none, -1 if the options are malformed before it. */
function walk(mem: DataView, at: number, wanted: number): number {
  const end = at + headerLen(mem, at)
  let i = at + MIN_HEADER_LEN
  while (i < end) {
    const kind = mem.getUint8(i)
    if (kind === OPTION_END) return 0
    if (kind === OPTION_NOP) {
      i++
      continue
    }
    if (i + 2 > end) return -1
    const length = mem.getUint8(i + 1)
    if (length < 2 || i + length > end) return -1
    if (kind === wanted) return i
    i += length
  }
  return 0
}

/** The option of this kind if it has exactly this length, else 0. */
function sized(mem: DataView, at: number, kind: number, length: number): number {
  const option = findOption(mem, at, kind)
  return option !== 0 && mem.getUint8(option + 1) === length ? option : 0
}

/** The maximum segment size announced, or 0. It has a meaning in a SYN only. */
export function mss(mem: DataView, at: number): number {
  const option = sized(mem, at, OPTION_MSS, MSS_LEN)
  return option === 0 ? 0 : mem.getUint16(option + 2)
}

/** The window scale announced, 0 to 14, or -1. It has a meaning in a SYN only. */
export function windowScale(mem: DataView, at: number): number {
  const option = sized(mem, at, OPTION_WINDOW_SCALE, WINDOW_SCALE_LEN)
  return option === 0 ? -1 : Math.min(mem.getUint8(option + 2), MAX_WINDOW_SCALE)
}

/** How many blocks a SACK option (from findOption) holds, 0 to 4. */
export const sackBlocks = (mem: DataView, option: number): number => (mem.getUint8(option + 1) - 2) >>> 3
/** Where block `i` of a SACK option begins: its left edge, four bytes, then its right edge. */
export const sackBlock = (option: number, i: number): number => option + 2 + i * 8
export const sackLeft = (mem: DataView, block: number): number => mem.getInt32(block)
export const sackRight = (mem: DataView, block: number): number => mem.getInt32(block + 4)

/** Changes the left edge of a SACK block, and the checksum as change() does. */
export const changeSackLeft = (mem: DataView, at: number, block: number, edge: number, partial: boolean): void =>
  change(mem, at, block, edge, partial)
export const changeSackRight = (mem: DataView, at: number, block: number, edge: number, partial: boolean): void =>
  change(mem, at, block + 4, edge, partial)

/**
 * Lowers the maximum segment size that a SYN announces to `maximum`, and repairs the checksum. With `partial` the
 * checksum field holds the sum of the pseudo-header only and stays as it is. True if anything was changed; nothing is
 * if there is no such option.
 */
export function clampMss(mem: DataView, at: number, maximum: number, partial = false): boolean {
  if ((flags(mem, at) & SYN) === 0) return false
  const option = sized(mem, at, OPTION_MSS, MSS_LEN)
  if (option === 0) return false
  const announced = mem.getUint16(option + 2)
  if (announced <= maximum) return false
  mem.setUint16(option + 2, maximum)
  if (partial) return true
  // Words are counted from the header's start: at an odd distance they were summed with their bytes swapped.
  const delta = delta16(announced, maximum)
  adjustChecksum(mem, at, (option - at) & 1 ? delta : swap16(delta))
  return true
}
