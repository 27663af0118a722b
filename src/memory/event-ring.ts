// Events of a shard's connections, expectations and packets, as they happen: a ring of records of fixed width in the
// shard's own memory, with one writer and one reader. The writer never waits: a record that finds the ring full is
// lost, and the next record says how many were.
//
//   word     writer   is
//   WANTED   reader   a bit for each kind that the reader wants; 0: nothing is written, which costs one load
//   FRAME    reader   what the next records belong to (replay: the frame's number); copied into each
//   TAIL     reader   records before it are read; stored after they are
//   HEAD     shard    records before it are written; stored after they are
//   LOST     shard    records that found the ring full
//
// Never: a record written at or after TAIL + the ring's slots; a record read at or after HEAD. All counts wrap at 2^32.
// A shard that starts again goes on at HEAD: a record that its predecessor had not finished does not exist.
//
// Owner: as the table says.

import { CACHE_LINE_WORDS, type Region } from './region.ts'

/** Kinds of events, a bit each. conntrack/events.shard.ts says what the rest of a record holds. */
export const EVENT = { flowNew: 1, flowEnd: 2, expectNew: 4, expectMatch: 8, expectEnd: 16, packet: 32 } as const
export const ALL_BUT_PACKETS = EVENT.flowNew | EVENT.flowEnd | EVENT.expectNew | EVENT.expectMatch | EVENT.expectEnd

/** Words of a record; its first ones are the ring's own. */
export const EVENT_WORDS = 20
export const KIND = 0
export const FRAME = 1
/** Second of the shard's clock. */
export const SECOND = 2
/** Records lost before this one, since the memory was made. */
const LOST_BEFORE = 3
/** Where the rest begins. */
export const BODY = 4

/** A power of two: a burst of 64 packets that each end a connection and begin one is far below it. */
export const EVENT_SLOTS = 4096

const WANTED_AT = 0
const FRAME_AT = 1
const TAIL_AT = CACHE_LINE_WORDS
const HEAD_AT = 2 * CACHE_LINE_WORDS
const LOST_AT = 2 * CACHE_LINE_WORDS + 1
const CONTROL_WORDS = 3 * CACHE_LINE_WORDS

export interface EventRing {
  readonly control: Int32Array
  readonly records: Int32Array
}

export const cutEvents = (region: Region): EventRing => ({
  control: region.i32(CONTROL_WORDS),
  records: region.i32(EVENT_SLOTS * EVENT_WORDS),
})

export class EventWriter {
  readonly #control: Int32Array
  readonly records: Int32Array

  constructor({ control, records }: EventRing) {
    this.#control = control
    this.records = records
  }

  /** Whether the reader wants one of these kinds. A plain load: it may see a change some packets late. */
  wants(kinds: number): boolean {
    return (this.#control[WANTED_AT]! & kinds) !== 0
  }

  /** Where the words of the next record begin, its first ones filled in; -1 if the ring is full. end() shows it. */
  begin(kind: number, second: number): number {
    const control = this.#control
    const head = control[HEAD_AT]!
    if (((head - Atomics.load(control, TAIL_AT)) | 0) >= EVENT_SLOTS) {
      Atomics.store(control, LOST_AT, control[LOST_AT]! + 1)
      return -1
    }
    const at = (head & (EVENT_SLOTS - 1)) * EVENT_WORDS
    this.records[at + KIND] = kind
    this.records[at + FRAME] = control[FRAME_AT]!
    this.records[at + SECOND] = second
    this.records[at + LOST_BEFORE] = control[LOST_AT]!
    return at
  }

  end(): void {
    Atomics.store(this.#control, HEAD_AT, this.#control[HEAD_AT]! + 1)
  }
}

export class EventReader {
  readonly #control: Int32Array
  readonly #records: Int32Array
  #lost: number

  constructor({ control, records }: EventRing) {
    this.#control = control
    this.#records = records
    this.#lost = Atomics.load(control, LOST_AT)
  }

  /** From now on the writer records these kinds (EVENT); what is in the ring stays there. */
  want(kinds: number): void {
    Atomics.store(this.#control, WANTED_AT, kinds)
  }

  /** Records written from now on belong to this frame. */
  setFrame(frame: number): void {
    Atomics.store(this.#control, FRAME_AT, frame)
  }

  /**
   * Calls `each` with every record that is there: the ring's words and where the record's begin, valid during the call.
   * `gap` with how many were lost, where they were, also behind the last one. Returns how many records.
   */
  drain(each: (records: Int32Array, at: number) => void, gap: (lost: number) => void): number {
    const control = this.#control
    const tail = control[TAIL_AT]!
    // Read before HEAD: records lost after this are reported by the next call.
    const lost = Atomics.load(control, LOST_AT)
    const head = Atomics.load(control, HEAD_AT)
    for (let count = tail; count !== head; count = (count + 1) | 0) {
      const at = (count & (EVENT_SLOTS - 1)) * EVENT_WORDS
      this.#tellGap(this.#records[at + LOST_BEFORE]!, gap)
      each(this.#records, at)
    }
    // These were lost behind the last record: the ring was full until now.
    this.#tellGap(lost, gap)
    Atomics.store(control, TAIL_AT, head)
    return (head - tail) | 0
  }

  #tellGap(lost: number, gap: (lost: number) => void): void {
    const more = (lost - this.#lost) | 0
    if (more <= 0) return
    this.#lost = lost
    gap(more)
  }
}
