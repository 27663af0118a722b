// The program at tcx ingress: it forwards, translated, what is plain and has an active slot, and leaves everything else
// to the shards, untouched. Authority: net/core/filter.c (helpers), include/linux/tcx.h (verdicts), RFC 1624 and the
// datapath's own translation (datapath/egress/translate.ts), which it must equal byte by byte. What makes a packet
// plain follows the checks of datapath/packet/parse.ts and nf_flow_table_ip.c (nf_flow_offload_ip_hook). Pure.
//
// Below 'changes begin' a packet can't be given back any more. Its labels: `slow`, to the shards; `lost`, which takes a
// failure of the kernel within a packet that it has made writable just before.
//
//   R6 the packet's struct __sk_buff    R7 its slot    R8 its Ethernet header    R9 its hop, then length and flags
//
// Several processors may count in one slot at once: that is exact. Highest end and ACK are plain stores: packets of one
// direction come by one processor as a rule, and where they don't, the next segment makes good what was overwritten.

import {
  atomic,
  call,
  exit,
  jump,
  type Line,
  label,
  load,
  loadMapValue,
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
  R10,
  type Step,
  step,
  store,
  swap,
  when,
  when32,
} from './ebpf.ts'
import { type Assembled, assemble, HELPER } from './ebpf-assembler.ts'
import { CONFIGURATION, HOP_PEER, SLOT } from './layout.ts'
import {
  ADDRESS_DELTA,
  F_MARK_MANGLED_0,
  F_PSEUDO_HDR,
  findPacket,
  fold16,
  HEADER_BYTES,
  HOP_FLAGS,
  INTERFACE,
  IP_BYTES,
  IP_CHECKSUM,
  IP_SRC,
  IP_TTL,
  IS_TCP,
  MAC_0,
  MAC_4,
  MAC_8,
  NEW_ADDRESSES,
  NEW_PORTS,
  needs,
  PORT_DELTA,
  pop,
  TCP_ACK,
  TCP_CHECKSUM,
  TCP_FLAGS,
  TCP_OPTIONS,
  TCP_SEQ,
  TCP_WINDOW,
  TRANSPORT,
  TTL_DELTA,
  UDP_CHECKSUM,
  UDP_END,
  word,
} from './program-places.ts'
import { plainFrame, plainTransport } from './program-plain.ts'
import { findSlot, followSlot, type ProgramOptions } from './program-slot.ts'

/** The next program of the interface has the packet, at last the kernel and with it the shards (TCX_NEXT). */
export const NEXT = -1
/** TCX_DROP, TCX_REDIRECT */
const DROP = 2
export const REDIRECT = 7

/** The kernel changes the transport's checksum, since it knows what is in the field: a sum, or part of one. */
const addToChecksum = (at: number, delta: number, flags: number, failed: string): Line[] => [
  op(R1, '=', R6),
  op(R2, '=', at),
  op(R3, '=', 0),
  pop(R4, delta),
  op(R5, '=', flags),
  call(HELPER.l4_csum_replace),
  when(R0, '!=', 0, failed),
]

const rewrite: readonly Step[] = [
  step(
    "changes begin: the transport's checksum",
    pop(R2, IS_TCP),
    when(R2, '==', 0, 'UDP sum'),
    addToChecksum(TCP_CHECKSUM, ADDRESS_DELTA, F_PSEUDO_HDR, 'slow'),
    addToChecksum(TCP_CHECKSUM, PORT_DELTA, 0, 'lost'),
    jump('summed'),
    label('UDP sum'),
    // A sum of zero says that there is none, and one that becomes zero is written as ones (RFC 768).
    addToChecksum(UDP_CHECKSUM, ADDRESS_DELTA, F_PSEUDO_HDR | F_MARK_MANGLED_0, 'slow'),
    addToChecksum(UDP_CHECKSUM, PORT_DELTA, F_MARK_MANGLED_0, 'lost'),
    label('summed'),
  ),
  step(
    'the packet again, which may have moved',
    findPacket,
    needs(UDP_END, 'lost'),
    pop(R9, IS_TCP),
    when(R9, '==', 0, 'writable'),
    needs(TCP_OPTIONS, 'lost'),
    label('writable'),
  ),
  step(
    "the hop's addresses",
    ...[MAC_0, MAC_4, MAC_8].flatMap((at, i) => [load(4, R2, R10, at), store(4, R8, word(i), R2)]),
  ),
  step(
    'time to live, addresses and ports',
    load(1, R2, R8, IP_TTL),
    op(R2, '-=', 1),
    store(1, R8, IP_TTL, R2),
    load(2, R2, R8, IP_CHECKSUM),
    op(R2, '^=', 0xffff),
    pop(R4, ADDRESS_DELTA),
    op(R2, '+=', R4),
    op(R2, '+=', TTL_DELTA),
    fold16(R2, R4),
    fold16(R2, R4),
    op(R2, '^=', 0xffff),
    store(2, R8, IP_CHECKSUM, R2),
    pop(R2, NEW_ADDRESSES),
    store(8, R8, IP_SRC, R2),
    pop(R2, NEW_PORTS),
    store(4, R8, TRANSPORT, R2),
  ),
]

const count = ({ map }: ProgramOptions): readonly Step[] => [
  step(
    'counted',
    op(R2, '=', 1),
    atomic(8, R7, word(SLOT.packets), '+=', R2),
    pop(R2, IP_BYTES),
    atomic(8, R7, word(SLOT.bytes), '+=', R2),
    loadMapValue(R1, map, 0),
    load(4, R2, R1, word(CONFIGURATION.seconds)),
    store(4, R7, word(SLOT.lastSeen), R2),
    pop(R9, IS_TCP),
    when(R9, '==', 0, 'send'),
  ),
  step(
    'TCP: flags that are new, the highest end',
    load(1, R2, R8, TCP_FLAGS),
    load(4, R4, R7, word(SLOT.flags)),
    op(R5, '=', R4),
    op(R5, '|=', R2),
    when(R5, '==', R4, 'flags known'),
    atomic(4, R7, word(SLOT.flags), '|=', R2),
    label('flags known'),
    load(4, R2, R8, TCP_SEQ),
    swap(R2, 32),
    pop(R4, IP_BYTES),
    op32(R2, '+=', R4),
    pop(R4, HEADER_BYTES),
    op32(R2, '-=', R4),
    op32(R2, '-=', 20),
    load(4, R4, R7, word(SLOT.end)),
    op32(R5, '=', R2),
    op32(R5, '-=', R4),
    when32(R5, 's<=', 0, 'no new end'),
    store(4, R7, word(SLOT.end), R2),
    label('no new end'),
  ),
  step(
    'the highest ACK, its window, the largest window',
    load(4, R2, R8, TCP_ACK),
    swap(R2, 32),
    load(2, R3, R8, TCP_WINDOW),
    swap(R3, 16),
    load(4, R4, R7, word(SLOT.ack)),
    op32(R5, '=', R2),
    op32(R5, '-=', R4),
    when32(R5, 's<', 0, 'old ACK'),
    store(4, R7, word(SLOT.ack), R2),
    store(4, R7, word(SLOT.window), R3),
    label('old ACK'),
    load(4, R4, R7, word(SLOT.maxWindow)),
    when(R3, '<=', R4, 'send'),
    store(4, R7, word(SLOT.maxWindow), R3),
  ),
]

const send: readonly Step[] = [
  step(
    'sent',
    label('send'),
    pop(R1, INTERFACE),
    op(R2, '=', 0),
    pop(R3, HOP_FLAGS),
    when(R3, '&', HOP_PEER, 'peer'),
    call(HELPER.redirect),
    exit(),
    label('peer'),
    call(HELPER.redirect_peer),
    exit(),
  ),
  step("the shards'", label('slow'), op32(R0, '=', NEXT), exit()),
  step('lost', label('lost'), op(R0, '=', DROP), exit()),
]

export const offloadProgram = (options: ProgramOptions): Assembled =>
  assemble([
    ...plainFrame,
    ...plainTransport,
    ...findSlot(options),
    ...followSlot(options),
    ...rewrite,
    ...count(options),
    ...send,
  ])
