// Where the program's parts find things: fields of struct __sk_buff, offsets in a frame; and how they are got.
// Authority: linux/bpf.h, RFC 791, 768, 9293. Pure.

import { type Line, load, op, R2, R3, R6, R8, type Register, when } from './ebpf.ts'

// struct __sk_buff
export const LENGTH = 0
export const PACKET_TYPE = 4
export const PROTOCOL = 16
export const VLAN_PRESENT = 20
const DATA = 76
export const DATA_END = 80
export const GSO_SIZE = 176

export const PACKET_HOST = 0
/** ETH_P_IP as it is in memory. */
export const TYPE_IPV4 = 0x0008
export const TCP = 6
export const UDP = 17

// Where things are, from the Ethernet header on.
export const IP = 14

export const IP_LENGTH = IP + 2
export const IP_FRAGMENT = IP + 6
export const IP_TTL = IP + 8
export const IP_PROTOCOL = IP + 9
export const IP_CHECKSUM = IP + 10
export const IP_SRC = IP + 12
export const TRANSPORT = IP + 20
export const UDP_LENGTH = TRANSPORT + 4
export const UDP_CHECKSUM = TRANSPORT + 6
export const UDP_END = TRANSPORT + 8
export const TCP_SEQ = TRANSPORT + 4
export const TCP_ACK = TRANSPORT + 8
export const TCP_OFFSET = TRANSPORT + 12
export const TCP_FLAGS = TRANSPORT + 13
export const TCP_WINDOW = TRANSPORT + 14
export const TCP_CHECKSUM = TRANSPORT + 16
export const TCP_OPTIONS = TRANSPORT + 20

/** Version 4, a header of 20 bytes. */
export const PLAIN_HEADER = 0x45
/** More fragments and the offset, as loaded. */
export const FRAGMENT_BITS = 0xff3f
/** The shortest frame that Ethernet carries, without its checksum: a shorter packet is padded to it. */
export const SHORTEST_FRAME = 60
export const FIN_SYN_RST_ACK = 0x17
export const ACK = 0x10
/** Two NOPs, then a timestamp of 10 bytes; two NOPs, then SACK, whose length follows: as loaded. */
export const TIMESTAMP = 0x0a080101
export const SACK = 0x00050101
export const TIMESTAMP_BYTES = 12
/** What the time to live adds to the header's sum when it is one less, and stands in a word's low byte. */
export const TTL_DELTA = 0xfffe

export const F_PSEUDO_HDR = 0x10
export const F_MARK_MANGLED_0 = 0x20

export const word = (number: number): number => number * 4

/** to = the length of TCP's header, of a packet that has one at R8. */
export const loadHeaderLength = (to: Register): Line[] => [
  load(1, to, R8, TCP_OFFSET),
  op(to, '>>=', 4),
  op(to, '<<=', 2),
]

/** R8 and R3: where the packet begins and ends. Both are void after a call that may have moved it. */
export const findPacket = [load(4, R8, R6, DATA), load(4, R3, R6, DATA_END)]
/** Goes `to` if the packet at R8, which ends at R3, is shorter than this; R2 is lost. */
export const needs = (bytes: number, to: string): Line[] => [
  op(R2, '=', R8),
  op(R2, '+=', bytes),
  when(R2, '>', R3, to),
]

/** One round of folding: what lies above 16 bits is added to them. */
export const fold16 = (sum: Register, scratch: Register): Line[] => [
  ...[op(scratch, '=', sum), op(scratch, '>>=', 16), op(sum, '&=', 0xffff), op(sum, '+=', scratch)],
]
