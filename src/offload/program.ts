// The program at tcx ingress: it forwards, translated, what is plain and has an active slot, and leaves everything else
// to the shards, untouched. Authority: net/core/filter.c (helpers), include/linux/tcx.h (verdicts), RFC 1624 and the
// datapath's own translation (datapath/egress/translate.ts), which it must equal byte by byte. What makes a packet
// plain follows the checks of datapath/packet/parse.ts and nf_flow_table_ip.c (nf_flow_offload_ip_hook). Pure.
//
// Below 'changes begin' a packet can't be given back any more. Its labels: `slow`, to the shards; `lost`, which takes a
// failure of the kernel within a packet that it has made writable just before.
//
//   R6 the packet's struct __sk_buff    R7 its slot    R8 its Ethernet header    R9 its hop
//
// Nothing is put on the stack: for a loader without CAP_PERFMON the verifier has each first store there wait for all
// that the processor has begun (speculative store bypass), which made the program twice as slow.
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
  type Step,
  step,
  store,
  swap,
  when,
  when32,
} from './ebpf.ts'
import { type Assembled, assemble, HELPER } from './ebpf-assembler.ts'
import { CONFIGURATION, HOP, HOP_PEER, SLOT } from './layout.ts'
import {
  F_MARK_MANGLED_0,
  F_PSEUDO_HDR,
  findPacket,
  fold16,
  IP_CHECKSUM,
  IP_LENGTH,
  IP_PROTOCOL,
  IP_SRC,
  IP_TTL,
  loadHeaderLength,
  needs,
  TCP_ACK,
  TCP_CHECKSUM,
  TCP_FLAGS,
  TCP_OPTIONS,
  TCP_SEQ,
  TCP_WINDOW,
  TRANSPORT,
  TTL_DELTA,
  UDP,
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
  load(4, R4, R7, word(delta)),
  op(R5, '=', flags),
  call(HELPER.l4_csum_replace),
  when(R0, '!=', 0, failed),
]

const rewrite: readonly Step[] = [
  step(
    "changes begin: the transport's checksum",
    when(R4, '==', UDP, 'UDP sum'),
    addToChecksum(TCP_CHECKSUM, SLOT.addressDelta, F_PSEUDO_HDR, 'slow'),
    addToChecksum(TCP_CHECKSUM, SLOT.portDelta, 0, 'lost'),
    jump('summed'),
    label('UDP sum'),
    // A sum of zero says that there is none, and one that becomes zero is written as ones (RFC 768).
    addToChecksum(UDP_CHECKSUM, SLOT.addressDelta, F_PSEUDO_HDR | F_MARK_MANGLED_0, 'slow'),
    addToChecksum(UDP_CHECKSUM, SLOT.portDelta, F_MARK_MANGLED_0, 'lost'),
    label('summed'),
  ),
  step(
    'the packet again, which may have moved; R0 has the generation of the hop',
    op(R0, '=', R8),
    findPacket,
    needs(UDP_END, 'lost'),
  ),
  step(
    "the hop's addresses, R5 its interface, R9 its flags",
    ...[0, 1, 2].flatMap((i) => [load(4, R2, R9, word(HOP.addresses + i)), store(4, R8, word(i), R2)]),
    load(4, R5, R9, word(HOP.interfaceIndex)),
    load(4, R1, R9, word(HOP.flags)),
    load(4, R4, R9, word(HOP.generation)),
    when(R4, '!=', R0, 'lost'),
    op(R0, '=', R5),
    op(R9, '=', R1),
  ),
  step(
    'time to live, addresses and ports',
    load(1, R2, R8, IP_TTL),
    op(R2, '-=', 1),
    store(1, R8, IP_TTL, R2),
    load(2, R2, R8, IP_CHECKSUM),
    op(R2, '^=', 0xffff),
    load(4, R4, R7, word(SLOT.addressDelta)),
    op(R2, '+=', R4),
    op(R2, '+=', TTL_DELTA),
    fold16(R2, R4),
    fold16(R2, R4),
    op(R2, '^=', 0xffff),
    store(2, R8, IP_CHECKSUM, R2),
    load(8, R2, R7, word(SLOT.newSrc)),
    store(8, R8, IP_SRC, R2),
    load(4, R2, R7, word(SLOT.newPorts)),
    store(4, R8, TRANSPORT, R2),
  ),
]

const count = ({ map }: ProgramOptions): readonly Step[] => [
  step(
    'counted',
    op(R2, '=', 1),
    atomic(8, R7, word(SLOT.packets), '+=', R2),
    load(2, R2, R8, IP_LENGTH),
    swap(R2, 16),
    atomic(8, R7, word(SLOT.bytes), '+=', R2),
    loadMapValue(R1, map, 0),
    load(4, R1, R1, word(CONFIGURATION.seconds)),
    store(4, R7, word(SLOT.lastSeen), R1),
    load(1, R1, R8, IP_PROTOCOL),
    when(R1, '==', UDP, 'send'),
    op(R1, '=', R8),
    op(R1, '+=', TCP_OPTIONS),
    when(R1, '>', R3, 'lost'),
  ),
  step(
    'TCP: flags that are new, the highest end',
    load(1, R1, R8, TCP_FLAGS),
    load(4, R4, R7, word(SLOT.flags)),
    op(R5, '=', R4),
    op(R5, '|=', R1),
    when(R5, '==', R4, 'flags known'),
    atomic(4, R7, word(SLOT.flags), '|=', R1),
    label('flags known'),
    load(4, R1, R8, TCP_SEQ),
    swap(R1, 32),
    op32(R2, '+=', R1),
    loadHeaderLength(R4),
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
    op(R1, '=', R0),
    op(R2, '=', 0),
    when(R9, '&', HOP_PEER, 'peer'),
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
