// Longest prefix match (RFC 1812 section 5.2.4.3) in shared memory: a binary trie without one-way branches (PATRICIA),
// so a lookup visits only prefixes that differ, and n prefixes need at most 2n + 1 nodes.
// Owner: the thread that builds it; every thread may read a finished one. Zeroed memory is an empty trie.
//
// Node 0 is the root, the prefix of length 0. A child number 0 is no child, a value 0 no value.

const PREFIX = 0 // the address's leading bits in host order, zeros behind
const LENGTH = 1 // how many of them count, 0..32
const CHILD = 2 // two words: where the next bit is 0, where it is 1
const VALUE = 4
const WORDS = 8 // half a cache line: a node never straddles two

/** Words that a trie of this many prefixes takes. */
export const trieWords = (prefixes: number): number => (2 * prefixes + 1) * WORDS

/** The leading `length` bits of a number in host order. A shift by 32 is a shift by 0 here, hence the branch. */
const leading = (bits: number, length: number): number => (length === 0 ? 0 : bits & (-1 << (32 - length)))

const nextBit = (bits: number, at: number): number => (bits >>> (31 - at)) & 1

/** Builds one trie into `words` from `at` on. The caller keeps to the number of prefixes it asked `trieWords` for. */
export class TrieBuilder {
  readonly #words: Int32Array
  readonly #at: number
  #nodes = 1

  constructor(words: Int32Array, at: number) {
    this.#words = words
    this.#at = at
    this.#clear(at)
  }

  /** Sets the value (not 0) of a prefix unless it has one; returns the one it has. `bits` in host order. */
  add(bits: number, length: number, value: number): number {
    const words = this.#words
    const prefix = leading(bits, length)
    let node = this.#at
    for (;;) {
      const depth = words[node + LENGTH]
      if (depth === length) {
        if (words[node + VALUE] === 0) words[node + VALUE] = value
        return words[node + VALUE]
      }
      const link = node + CHILD + nextBit(prefix, depth)
      const child = this.#at + words[link] * WORDS
      if (words[link] === 0) {
        node = this.#append(link, prefix, length)
        continue
      }
      const common = Math.min(Math.clz32(prefix ^ words[child + PREFIX]), words[child + LENGTH], length)
      if (common === words[child + LENGTH]) {
        node = child
        continue
      }
      const below = words[link]
      node = this.#append(link, leading(prefix, common), common)
      words[node + CHILD + nextBit(words[child + PREFIX], common)] = below
    }
  }

  #append(link: number, prefix: number, length: number): number {
    const number = this.#nodes++
    const node = this.#at + number * WORDS
    this.#clear(node)
    this.#words[node + PREFIX] = prefix
    this.#words[node + LENGTH] = length
    this.#words[link] = number
    return node
  }

  #clear(node: number): void {
    this.#words.fill(0, node, node + WORDS)
  }
}

/**
 * The value of the longest prefix that covers an address (host order), 0 if none does. It ends after at most 33 nodes
 * and reads inside `words` only, even while the memory is being rewritten under it; the caller then discards the
 * answer.
 */
export function longestMatch(words: Int32Array, at: number, address: number): number {
  let value = 0
  let node = at
  let depth = -1
  for (;;) {
    const length = words[node + LENGTH]
    // Lengths only grow on the way down, unless this memory is being rewritten.
    if (!(length > depth) || ((address ^ words[node + PREFIX]) & (length === 0 ? 0 : -1 << (32 - length))) !== 0) break
    if (words[node + VALUE] !== 0) value = words[node + VALUE]
    if (length >= 32) break
    const child = words[node + CHILD + nextBit(address, length)]
    if (child === 0) break
    depth = length
    node = at + child * WORDS
  }
  return value
}
