// The memory that bytes of helped connections are kept in: blocks of one size, cut out of chunks outside of the
// JavaScript heap, in chains (byte-queue.ts). What is counted is blocks, so one byte that is kept counts as what it
// takes. A chunk is allocated when all others are full, and all but one are given back when no byte is kept any more.
//
// Nothing is refused here: who keeps more than its share is asked before it adds anything (helper-call.ts:
// keepsTooMuch), so beyond the limit of limits.ts there is at most what one packet, or one call, brings.
// Owner: this thread; lost if it dies.

/** A line of a control connection, mostly. */
export const BLOCK_BYTES = 256
const BLOCK_SHIFT = 8
const CHUNK_BLOCKS = 4096
const CHUNK_SHIFT = 12

/** In place of a block: none. */
export const NO_BLOCK = -1

interface Chunk {
  readonly bytes: Buffer
  /** By block: the next one of its chain, or of the free ones. */
  readonly next: Int32Array
}

let chunks: Chunk[] = []
let free = NO_BLOCK
let taken = 0

/** Bytes of all blocks that a chain has. */
export const bytesKept = (): number => taken * BLOCK_BYTES

/** Bytes of all chunks, with the words of their chains. */
export const poolBytes = (): number => chunks.length * CHUNK_BLOCKS * (BLOCK_BYTES + 4)

export function attachBytePool(): void {
  chunks = []
  free = NO_BLOCK
  taken = 0
}

/** The memory that a block lies in, and where it begins there. */
export const memoryOf = (block: number): Buffer => chunks[block >> CHUNK_SHIFT]!.bytes
export const placeOf = (block: number): number => (block & (CHUNK_BLOCKS - 1)) << BLOCK_SHIFT

export const nextBlock = (block: number): number => chunks[block >> CHUNK_SHIFT]!.next[block & (CHUNK_BLOCKS - 1)]!

/** `block` is followed by `next` in its chain. */
export function linkBlock(block: number, next: number): void {
  chunks[block >> CHUNK_SHIFT]!.next[block & (CHUNK_BLOCKS - 1)] = next
}

/** A block that ends a chain. */
export function takeBlock(): number {
  if (free === NO_BLOCK) addChunk()
  const block = free
  free = nextBlock(block)
  linkBlock(block, NO_BLOCK)
  taken++
  return block
}

export function giveBlock(block: number): void {
  linkBlock(block, free)
  free = block
  taken--
  if (taken === 0 && chunks.length > 1) keepOneChunk()
}

function addChunk(): void {
  const bytes = Buffer.alloc(CHUNK_BLOCKS * BLOCK_BYTES)
  chunks.push({ bytes, next: new Int32Array(CHUNK_BLOCKS) })
  linkChunk(chunks.length - 1)
}

function keepOneChunk(): void {
  chunks.length = 1
  free = NO_BLOCK
  linkChunk(0)
}

/** All blocks of a chunk become free, the first one first. */
function linkChunk(chunk: number): void {
  const first = chunk << CHUNK_SHIFT
  for (let block = first + CHUNK_BLOCKS - 1; block >= first; block--) {
    linkBlock(block, free)
    free = block
  }
}
