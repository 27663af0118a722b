// The tuple that tells connections apart (struct nf_conntrack_tuple), in four i32 words as they stand in the packet:
// source, destination, ports, and the key word: protocol | side << 8, where side tells by which side the packet came
// (0 inside, 1 outside). Which of several inside interfaces it was is no part of it; that the side is one lets both
// sides use the same addresses (RFC 4787 REQ-7).
//
// The ports word is the header's first four bytes as loaded: source port in the low half. Protocols without ports
// have 0; an ICMP query carries its identifier where a sender's port would be, and its type (the query's, in answers
// too) where the receiver's would: what holds for ports then holds for identifiers (RFC 5508 section 3.1).

import { hash4 } from '../memory/siphash.ts'
import { swap16 } from '../wire/address.ts'

export const INSIDE = 0
export const OUTSIDE = 1

export const keyWord = (protocol: number, side: number): number => protocol | (side << 8)

/** A packet's hash in the connection index. */
export const hashTuple = (src: number, dst: number, ports: number, key: number): number => hash4(src, dst, ports, key)

/** The ports word of an answer. */
export const invertPorts = (ports: number): number => (ports << 16) | (ports >>> 16)

/** Numeric ports (0..65535) out of a ports word, and back. */
export const sourcePort = (ports: number): number => swap16(ports & 0xffff)
export const destinationPort = (ports: number): number => swap16(ports >>> 16)
export const portsWord = (source: number, destination: number): number => swap16(source) | (swap16(destination) << 16)
