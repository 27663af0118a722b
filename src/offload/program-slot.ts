// The program's second part: the packet's slot, and whether it may be followed. Slots are written by shards meanwhile
// (slots.ts, README.md, Memory order), hops by their owner: what is found counts only if
// all generations are the same at the end. Pure.

import {
  atomic,
  jump,
  type Line,
  label,
  load,
  loadMapValue,
  type Operand,
  op,
  op32,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  R7,
  R8,
  R9,
  type Step,
  step,
  swap,
  when,
} from './ebpf.ts'
import {
  ACTIVE,
  CONFIGURATION,
  HASH_FACTOR,
  HASH_SHIFT,
  HOP,
  HOP_BYTES,
  HOPS,
  HOPS_AT,
  keyOf,
  PENDING,
  SECOND,
  SLOT,
  SLOT_BYTES,
  SLOTS_AT,
  WAYS,
} from './layout.ts'
import {
  DATA_END,
  GSO_SIZE,
  IP_LENGTH,
  IP_PROTOCOL,
  IP_SRC,
  loadHeaderLength,
  TCP_OPTIONS,
  TRANSPORT,
  UDP,
  word,
} from './program-places.ts'

/** One word of the tuple into the hash in R0; layout.ts has the same. */
const mix = (from: Operand): Line[] => [
  ...[op32(R0, '^=', from), op32(R0, '*=', HASH_FACTOR)],
  ...[op32(R5, '=', R0), op32(R5, '>>=', HASH_SHIFT), op32(R0, '^=', R5)],
]

export interface ProgramOptions {
  /** The descriptor of the map with the value of layout.ts. */
  readonly map: number
  /** Which side the interface is on that the program is for (conntrack/terms.ts). */
  readonly side: number
  /** As prepareValue() has been told. */
  readonly seed: number
  readonly buckets: number
}

/** R7 = the bucket, by the upper half of hash times buckets; the hash in R0 stays. */
const findBucket = (map: number, buckets: number): Line[] => [
  op32(R5, '=', R0),
  op(R5, '*=', buckets),
  op(R5, '>>=', 32),
  op(R5, '*=', WAYS * SLOT_BYTES),
  loadMapValue(R7, map, SLOTS_AT),
  op(R7, '+=', R5),
]

/** R7 = the slot with the tuple, to be found from the bucket on; else on at a label. */
const findWay = (bucket: string, otherwise: string): Line[] =>
  Array.from({ length: WAYS }, (_, way) => [
    load(8, R4, R7, word(SLOT.src)),
    when(R4, '!=', R2, `${bucket}, way ${way + 1}`),
    load(8, R4, R7, word(SLOT.ports)),
    when(R4, '==', R3, 'found'),
    label(`${bucket}, way ${way + 1}`),
    ...(way + 1 < WAYS ? [op(R7, '+=', SLOT_BYTES)] : [jump(otherwise)]),
  ]).flat()

export const findSlot = ({ map, side, seed, buckets }: ProgramOptions): readonly Step[] => [
  step(
    "the packet's tuple: R2 the addresses, R3 ports and key",
    load(8, R2, R8, IP_SRC),
    load(4, R3, R8, TRANSPORT),
    op(R9, '|=', keyOf(0, side)),
    op(R4, '=', R9),
    op(R4, '<<=', 32),
    op(R3, '|=', R4),
  ),
  step('its hash: R0', op32(R0, '=', seed), mix(R2), op(R4, '=', R2), op(R4, '>>=', 32), mix(R4), mix(R3), mix(R9)),
  step('the slot, in one bucket', findBucket(map, buckets), findWay('first', 'second')),
  step('or in the other', label('second'), mix(SECOND), findBucket(map, buckets), findWay('second', 'slow')),
  // The key once more, since the slot may have become another's before its generation was read; and R7 gains the
  // difference, 0, so that what is loaded by it is loaded after the key, on processors that reorder loads too.
  step(
    'its generation, and still the key',
    label('found'),
    load(4, R0, R7, word(SLOT.generation)),
    load(8, R4, R7, word(SLOT.src)),
    when(R4, '!=', R2, 'slow'),
    load(8, R4, R7, word(SLOT.ports)),
    op(R4, '^=', R3),
    when(R4, '!=', 0, 'slow'),
    op(R7, '+=', R4),
  ),
]

export const followSlot = ({ map }: ProgramOptions): readonly Step[] => [
  step(
    'pending: counted, and slow',
    load(4, R4, R7, word(SLOT.state)),
    when(R4, '==', ACTIVE, 'active'),
    when(R4, '!=', PENDING, 'slow'),
    op(R4, '=', 1),
    atomic(4, R7, word(SLOT.pending), '+=', R4),
    jump('slow'),
    label('active'),
  ),
  step(
    'routes and links are still the same',
    loadMapValue(R1, map, 0),
    load(4, R2, R1, word(CONFIGURATION.version)),
    load(4, R3, R7, word(SLOT.version)),
    when(R2, '!=', R3, 'slow'),
  ),
  step(
    'the hop is still the same: R9',
    load(4, R2, R7, word(SLOT.hopGeneration)),
    when(R2, '==', 0, 'slow'),
    load(4, R3, R7, word(SLOT.hop)),
    when(R3, '>=', HOPS, 'slow'),
    op(R3, '*=', HOP_BYTES),
    loadMapValue(R9, map, HOPS_AT),
    op(R9, '+=', R3),
    load(4, R4, R9, word(HOP.generation)),
    when(R4, '!=', R2, 'slow'),
  ),
  step(
    'no longer than the hop takes: of a super-packet, its segments',
    load(2, R3, R8, IP_LENGTH),
    swap(R3, 16),
    load(4, R4, R6, GSO_SIZE),
    when(R4, '==', 0, 'one packet'),
    op(R4, '+=', 28),
    load(1, R5, R8, IP_PROTOCOL),
    when(R5, '==', UDP, 'segments'),
    op(R1, '=', R3),
    load(4, R3, R6, DATA_END),
    op(R5, '=', R8),
    op(R5, '+=', TCP_OPTIONS),
    when(R5, '>', R3, 'slow'),
    op(R3, '=', R1),
    loadHeaderLength(R5),
    op(R4, '+=', R5),
    op(R4, '-=', 8),
    label('segments'),
    when(R4, '>=', R3, 'one packet'),
    op(R3, '=', R4),
    label('one packet'),
    load(4, R4, R9, word(HOP.mtu)),
    when(R3, '>', R4, 'slow'),
  ),
  // From here on the slot's fields are good for longer than the program takes, since a freed one rests. A hop doesn't:
  // R8 keeps its generation, and what is read of it is asked for once more (program.ts).
  step(
    'nothing of it has changed meanwhile',
    load(4, R4, R9, word(HOP.generation)),
    when(R4, '!=', R2, 'slow'),
    load(4, R4, R7, word(SLOT.hopGeneration)),
    when(R4, '!=', R2, 'slow'),
    load(4, R4, R7, word(SLOT.generation)),
    when(R4, '!=', R0, 'slow'),
    load(1, R4, R8, IP_PROTOCOL),
    op(R8, '=', R2),
  ),
]
