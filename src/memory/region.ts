// Cuts shared memory into typed views. Coordinator and shards run the same cutting code over the same buffer, so they
// need to agree on sizes only, and no table of offsets travels between threads.
//
// Every view begins on a cache line (64 bytes), counted from the buffer's start: a hot row must not straddle two
// lines (measured: half the rate at a million flows). A SharedArrayBuffer's storage begins 16 bytes past a page, the
// buffer of a shared WebAssembly.Memory on a 64 KB boundary, so the latter is used; `io/` asserts it by address.

// The compiler's library without a browser doesn't know it; Node does.
declare const WebAssembly: {
  Memory: new (limits: { initial: number; maximum: number; shared: true }) => { buffer: SharedArrayBuffer }
}

/** Bytes that processors move between their caches as one. */
export const CACHE_LINE = 64
/** i32 words of one: words of different writers never share one, or each store would take it from the other. */
export const CACHE_LINE_WORDS = CACHE_LINE / 4
const WASM_PAGE = 65536
/** Most bytes of one shared buffer: a WebAssembly memory has 65536 pages. */
export const MAX_SHARED_BYTES = 65536 * WASM_PAGE

/** A page-aligned shared buffer of at least `bytes`, zeroed; pages are taken from the system when first touched. */
export function sharedMemory(bytes: number): SharedArrayBuffer {
  const pages = Math.max(1, Math.ceil(bytes / WASM_PAGE))
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
  return memory.buffer
}

export class Region {
  #used = 0
  readonly #buffer: SharedArrayBuffer | null

  /** Without a buffer the region only measures: its views are empty, and `used` tells what they would take. */
  constructor(buffer: SharedArrayBuffer | null = null) {
    this.#buffer = buffer
  }

  get used(): number {
    return this.#used
  }

  i32(length: number): Int32Array {
    const at = this.#take(length * 4)
    return this.#buffer ? new Int32Array(this.#buffer, at, length) : new Int32Array(0)
  }

  f64(length: number): Float64Array {
    const at = this.#take(length * 8)
    return this.#buffer ? new Float64Array(this.#buffer, at, length) : new Float64Array(0)
  }

  u8(length: number): Uint8Array {
    const at = this.#take(length)
    return this.#buffer ? new Uint8Array(this.#buffer, at, length) : new Uint8Array(0)
  }

  /** A part of this region to be cut on its own. */
  sub(bytes: number): Region {
    const at = this.#take(bytes)
    const part = new Region(this.#buffer)
    part.#used = at
    return part
  }

  #take(bytes: number): number {
    const at = this.#used
    this.#used = at + Math.ceil(bytes / CACHE_LINE) * CACHE_LINE
    if (this.#buffer && this.#used > this.#buffer.byteLength)
      throw new RangeError(`region of ${this.#buffer.byteLength} bytes is too small: ${this.#used} wanted`)
    return at
  }
}

/** Bytes that `cut` takes of a region. */
export function bytesOf(cut: (region: Region) => unknown): number {
  const region = new Region()
  cut(region)
  return region.used
}

/** A buffer just large enough for what `cut` takes of a region, and what `cut` returned for it. */
export function allocate<T>(cut: (region: Region) => T): { buffer: SharedArrayBuffer; view: T } {
  const buffer = sharedMemory(bytesOf(cut))
  return { buffer, view: cut(new Region(buffer)) }
}
