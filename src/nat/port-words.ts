// The word of an external port: who has it, who has named it, and when it was freed. Any shard may change it, by
// compare-and-swap of the whole word (CAS 1); where the words lie is said in externals.ts.
//
//   bit 0        a mapping has the port; set and cleared by the shard that leases its block only
//   bits 1-4     how many reservations name it (reservations.ts), 0 to 15
//   bits 5-16    the second when it was freed, plus 1, modulo 4095; 0: never, or its quarantine is over
//   bit 17       the host itself has a socket on the port; set and cleared by the coordinator only, in place
//   bits 18-31   a version that every change of bits 0-16 raises, so that a compare-and-swap can't mistake a word for
//                an older one of equal content
//
// The host's bit says nothing of what NAT does with the port, and may change at any time between two looks at the word.
// So whoever changes other bits carries it along, and words that differ in it alone are the same where it is asked
// whether a word is still the one that was read or set (isSameWord, replaceContent). Only where a port is given to
// somebody who does not have it yet, the bit is looked at (mayBeGiven), and a change of it makes the giving fail.
//
// Owner: none; the rules are those of the bits.

import type { PortIndex, Seconds } from '../memory/brand.ts'

export type PortWord = number

export const MAPPED = 1
/** One of the reservations that name the port, and the most. */
export const RESERVATION = 1 << 1
export const RESERVATIONS = 15 << 1
const FREED_SHIFT = 5
const FREED_MASK = 0xfff << FREED_SHIFT
const FREED_MODULUS = 4095
const HOST_BOUND = 1 << 17
const CONTENT_MASK = HOST_BOUND - 1
const VERSION_SHIFT = 18

export const isMapped = (word: PortWord): boolean => (word & MAPPED) !== 0
export const isTaken = (word: PortWord): boolean => (word & (MAPPED | RESERVATIONS)) !== 0

/** The host has a socket on the port. */
export const isHostBound = (word: PortWord): boolean => (word & HOST_BOUND) !== 0

/** Nobody has the port and nobody has named it, it is in no quarantine, and the host has no socket on it. */
export const mayBeGiven = (word: PortWord): boolean => (word & (MAPPED | RESERVATIONS | FREED_MASK | HOST_BOUND)) === 0

/** NAT has done nothing with the port between these two words of it. */
export const isSameWord = (a: PortWord, b: PortWord): boolean => ((a ^ b) & ~HOST_BOUND) === 0

/** The same word with other content and the next version. */
export const withContent = (word: PortWord, content: number): PortWord =>
  (((word >>> VERSION_SHIFT) + 1) << VERSION_SHIFT) | (word & HOST_BOUND) | (content & CONTENT_MASK) | 0

/** The coordinator says that the host has a socket on the port, or has none any longer. */
export function setHostBound(words: Int32Array, at: PortIndex, bound: boolean): void {
  if (bound) Atomics.or(words, at, HOST_BOUND)
  else Atomics.and(words, at, ~HOST_BOUND)
}

/**
 * Gives the word other content if NAT has done nothing with the port since the word was read. False, and nothing is
 * changed, if it has.
 */
export function replaceContent(words: Int32Array, at: PortIndex, word: PortWord, content: number): boolean {
  for (let expected = word; ; ) {
    const found = Atomics.compareExchange(words, at, expected, withContent(expected, content))
    if (found === expected) return true
    if (!isSameWord(found, word)) return false
    expected = found
  }
}

/** What a word says of a port that was freed at this second. */
export const freedAt = (second: Seconds): number => ((second % FREED_MODULUS) + 1) << FREED_SHIFT

/** When the port was freed, as freedAt() says it; 0 if it is in no quarantine. */
export const freedIn = (word: PortWord): number => word & FREED_MASK

/** It was freed, and the shard that leases its block has not ended its quarantine. */
export const wasFreed = (word: PortWord): boolean => (word & FREED_MASK) !== 0

/** Freed less than `length` seconds before `second`. After 68 minutes a word may look freshly freed once more. */
export function isInQuarantine(word: PortWord, second: Seconds, length: Seconds): boolean {
  const freed = (word & FREED_MASK) >>> FREED_SHIFT
  if (freed === 0) return false
  return (second - (freed - 1) + FREED_MODULUS * 2) % FREED_MODULUS < length
}

/** Clears the mapping bit and says when the port was freed (freedAt(), or 0); reservations that name it stay. */
export function unmap(words: Int32Array, at: PortIndex, freed: number): void {
  for (;;) {
    const word = Atomics.load(words, at)
    if (Atomics.compareExchange(words, at, word, withContent(word, (word & RESERVATIONS) | freed)) === word) return
  }
}

/**
 * Says of a port that nobody has mapped when it was freed (freedAt(), or 0). False, and nothing is changed, if its word
 * is not this one any more.
 */
export const setFreed = (words: Int32Array, at: PortIndex, word: PortWord, freed: number): boolean =>
  replaceContent(words, at, word, (word & RESERVATIONS) | freed)

/** How many reservations name a port, by its word; and so many reservations as bits of a word. */
export const reservationsIn = (word: PortWord): number => (word & RESERVATIONS) / RESERVATION
export const ofReservations = (count: number): number => count * RESERVATION
