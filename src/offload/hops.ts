// The hops of the offload's map: where packets go. Authority: net/ipv4/fib_semantics.c and neighbour.c in what a hop
// is, net/core/filter.c (bpf_redirect) in what the kernel takes.
//
// Owner: one thread, that of the coordinator or of whoever follows links and neighbours; shards and the program read.
// A hop is changed under an odd generation. Whoever has remembered the one before goes slow, and asks again. When,
// beside a change of routes: README.md, The order of a change.

import { HOP, HOP_PEER, HOP_WORDS, HOPS, HOPS_AT } from './layout.ts'

const { generation: GENERATION, interfaceIndex: INTERFACE, mtu: MTU, flags: FLAGS, addresses: ADDRESSES } = HOP
const HOPS_WORD = HOPS_AT >> 2

export interface Hop {
  readonly interfaceIndex: number
  /** The longest IPv4 packet, of a super-packet the longest segment. */
  readonly mtu: number
  /** The interface is a veth whose other end, in another namespace, gets the packet at once. */
  readonly peer?: boolean
  /** Of the neighbour and of the interface; of no meaning where the link has no Ethernet. */
  readonly neighbour: Uint8Array
  readonly own: Uint8Array
}

export class Hops {
  readonly #words: Int32Array
  readonly #bytes: Uint8Array

  constructor(value: ArrayBufferLike) {
    this.#words = new Int32Array(value, 0, HOPS_WORD + HOPS * HOP_WORDS)
    this.#bytes = new Uint8Array(value, 0, HOPS_AT + HOPS * HOP_WORDS * 4)
  }

  /** Of a hop that may be followed; 0 while it is being written, and before it ever was. */
  generation(hop: number): number {
    const generation = Atomics.load(this.#words, HOPS_WORD + hop * HOP_WORDS + GENERATION)
    return (generation & 1) === 0 ? generation : 0
  }

  /** Slots with this hop go slow until they are renewed, with its new generation. */
  set(hop: number, { interfaceIndex, mtu, peer = false, neighbour, own }: Hop): void {
    const at = HOPS_WORD + hop * HOP_WORDS
    this.invalidate(hop)
    this.#words[at + INTERFACE] = interfaceIndex
    this.#words[at + MTU] = mtu
    this.#words[at + FLAGS] = peer ? HOP_PEER : 0
    this.#bytes.set(neighbour.subarray(0, 6), (at + ADDRESSES) * 4)
    this.#bytes.set(own.subarray(0, 6), (at + ADDRESSES) * 4 + 6)
    // Past 0, which no slot may have remembered.
    Atomics.add(this.#words, at + GENERATION, this.#words[at + GENERATION] === -1 ? 3 : 1)
  }

  /** Nobody follows the hop until it is set again. */
  invalidate(hop: number): void {
    const at = HOPS_WORD + hop * HOP_WORDS + GENERATION
    if ((Atomics.load(this.#words, at) & 1) === 0) Atomics.add(this.#words, at, 1)
  }
}
