// The Ethernet II header, IEEE 802.3. Every function takes the memory a frame lies in and where the frame begins.
// MAC addresses travel as loaded: the twelve bytes of both addresses are three little-endian words, so that a frame is
// readdressed by three stores. The driver owns a frame's memory; a shard may write to it between receive and release.

const DST = 0
const SRC = 6
const TYPE = 12
export const HEADER_LEN = 14

export const TYPE_IPV4 = 0x0800
export const TYPE_ARP = 0x0806
/** 802.1Q: a tagged frame. */
export const TYPE_VLAN = 0x8100
export const TYPE_IPV6 = 0x86dd

/** No function below reads past `end` if this is true. Ask once, before any of them. */
export const fits = (_mem: DataView, at: number, end: number): boolean => end - at >= HEADER_LEN

export const etherType = (mem: DataView, at: number): number => mem.getUint16(at + TYPE)
/** The first four bytes of the destination, as loaded (signed). */
export const dstHigh = (mem: DataView, at: number): number => mem.getInt32(at + DST, true)
/** The last two bytes of the destination, as loaded. */
export const dstLow = (mem: DataView, at: number): number => mem.getUint16(at + DST + 4, true)
/** The first four bytes of the source, as loaded (signed). */
export const srcHigh = (mem: DataView, at: number): number => mem.getInt32(at + SRC, true)
/** The last two bytes of the source, as loaded. */
export const srcLow = (mem: DataView, at: number): number => mem.getUint16(at + SRC + 4, true)
/** Whether the destination is a group: multicast or broadcast. */
export const isGroup = (mem: DataView, at: number): boolean => (mem.getUint8(at + DST) & 1) !== 0

export const setEtherType = (mem: DataView, at: number, type: number): void => mem.setUint16(at + TYPE, type)

/** Writes destination and source at once; the words come from addressWords. */
export function setAddressWords(mem: DataView, at: number, w0: number, w1: number, w2: number): void {
  mem.setInt32(at, w0, true)
  mem.setInt32(at + 4, w1, true)
  mem.setInt32(at + 8, w2, true)
}

/** The twelve bytes that begin a frame from `src` to `dst`, six bytes each, as three words as loaded. */
export function addressWords(dst: Uint8Array, src: Uint8Array): [w0: number, w1: number, w2: number] {
  const words = new DataView(Uint8Array.of(...dst, ...src).buffer)
  return [words.getInt32(0, true), words.getInt32(4, true), words.getInt32(8, true)]
}

/**
 * Writes at `at` the header of an answer to the frame at `from`: source and destination change places, the type stays.
 * `at` and `from` may be equal. The caller has seen that the destination is no group.
 */
export function answerTo(mem: DataView, at: number, from: number): void {
  const high = dstHigh(mem, from)
  const low = dstLow(mem, from)
  const toHigh = srcHigh(mem, from)
  const toLow = srcLow(mem, from)
  const type = etherType(mem, from)
  mem.setInt32(at + DST, toHigh, true)
  mem.setUint16(at + DST + 4, toLow, true)
  mem.setInt32(at + SRC, high, true)
  mem.setUint16(at + SRC + 4, low, true)
  setEtherType(mem, at, type)
}
