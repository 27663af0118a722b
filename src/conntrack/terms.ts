// What conntrack says of a packet: its tuple (struct nf_conntrack_tuple), what it is to its connection (enum
// ip_conntrack_info), and what becomes of it (netfilter's verdicts). Plain integers throughout, so that no stage of the
// datapath allocates or throws; the types say which integer is which.

import type { Brand, Row } from '../memory/brand.ts'
import { hash4 } from '../memory/siphash.ts'
import type { Addr, Port, PortHost, Ports, ProtocolNumber } from '../wire/address.ts'
import { htons, ntohs } from '../wire/address.ts'

// --- the tuple ---
//
// Four i32 words as they stand in the packet: source, destination, ports, and the key word: protocol | side << 8. Which
// of several inside interfaces the packet came by is no part of it; that the side is one lets both sides use the same
// addresses (RFC 4787 REQ-7).
//
// The ports word is the header's first four bytes as loaded: source port in the low half. Protocols without ports
// have 0; an ICMP query carries its identifier where a sender's port would be, and its type (the query's, in answers
// too) where the receiver's would: what holds for ports then holds for identifiers (RFC 5508 section 3.1).

/** By which side a packet came. */
export type Side = 0 | 1
export const INSIDE = 0
export const OUTSIDE = 1
/** The other side. */
export const otherSide = (side: Side): Side => (1 - side) as Side

/** 0: original, the direction of the connection's first packet; 1: reply. */
export type Direction = 0 | 1
/** The other direction. */
export const opposite = (direction: Direction): Direction => (1 - direction) as Direction

/** Protocol in bits 0-7, side in bit 8. */
export type KeyWord = Brand<'KeyWord'>
export const keyWord = (protocol: ProtocolNumber, side: Side): KeyWord => protocol | (side << 8)
export const protocolIn = (key: KeyWord): ProtocolNumber => key & 0xff
export const sideIn = (key: KeyWord): Side => ((key >> 8) & 1) as Side

/** Row << 1 | direction, as the connection index holds it; 0: no connection. */
export type Ref = Brand<'Ref'>
export const refOf = (row: Row, direction: Direction): Ref => (row << 1) | direction
export const rowOf = (ref: Ref): Row => ref >> 1
export const directionOf = (ref: Ref): Direction => (ref & 1) as Direction

/** A packet's hash in the connection index. */
export const hashTuple = (key: KeyWord, src: Addr, dst: Addr, ports: Ports): number => hash4(src, dst, ports, key)

/** The ports word of an answer. */
export const invertPorts = (ports: Ports): Ports => (ports << 16) | (ports >>> 16)

/** The ports out of a ports word, as loaded, and back. */
export const srcPortIn = (ports: Ports): Port => ports & 0xffff
export const dstPortIn = (ports: Ports): Port => ports >>> 16
export const portsOf = (source: Port, destination: Port): Ports => source | (destination << 16)

/** The same in numeric order (0..65535). */
export const sourcePort = (ports: Ports): PortHost => ntohs(srcPortIn(ports))
export const destinationPort = (ports: Ports): PortHost => ntohs(dstPortIn(ports))
export const portsWord = (source: PortHost, destination: PortHost): Ports => portsOf(htons(source), htons(destination))

// --- what a packet is to its connection; track.shard.ts says which of them it is ---

/** One of these, or one of the first two and CT_IS_REPLY together. */
export type CtInfo = Brand<'CtInfo'>
export const CT_ESTABLISHED = 0
export const CT_RELATED = 1
export const CT_NEW = 2
/** Added in the reply direction. */
export const CT_IS_REPLY = 3

// --- what becomes of it ---

/**
 * A drop reason (zero and above; counters/drop-reasons.ts), or one of the names below, which are netfilter's where it
 * has one.
 */
export type Verdict = Brand<'Verdict' | 'DropReason'>

/** The packet goes on to the next stage. */
export const ACCEPT = -1
/** Not natloom's: the kernel sees every frame too, and does with this one what it would do without natloom. */
export const NOT_OURS = -2
/** The packet was copied out and goes on later (NF_QUEUE, NF_STOLEN). */
export const QUEUED = -3
/** The connection it belonged to is over: look it up once more, as the first packet of a new one (NF_REPEAT). */
export const REPEAT = -4
/** The packet goes on, and its connection ends with it. */
export const ACCEPT_AND_END = -5
/** The packet belongs to another shard, and lies in a ring to it. */
export const HANDED_OVER = -6
