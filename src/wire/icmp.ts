// ICMP, RFC 792, with RFC 950 (address mask), RFC 1191 (next-hop MTU), RFC 4884 (length of the embedded packet). Every
// function takes the memory a packet lies in and where its ICMP header begins. The checksum and the identifier are as
// loaded, all else is in numeric order.

import type { Port } from './address.ts'
import { applyDelta, complement, sum } from './checksum.ts'

const TYPE = 0
const CODE = 1
const CHECKSUM = 2
const ID = 4
const ORIGINAL_LENGTH = 5
const SEQ = 6
const NEXT_HOP_MTU = 6
const REST = 4
export const HEADER_LEN = 8
/** Where the packet that an error is about is embedded, beginning with its IPv4 header. */
export const EMBEDDED = 8

export const ECHO_REPLY = 0
export const UNREACHABLE = 3
/** Deprecated by RFC 6633, still an error. */
export const SOURCE_QUENCH = 4
/** Tells a host of a better router on its own link, so it is never forwarded. */
export const REDIRECT = 5
export const ECHO_REQUEST = 8
export const TIME_EXCEEDED = 11
export const PARAMETER_PROBLEM = 12
export const TIMESTAMP_REQUEST = 13
export const TIMESTAMP_REPLY = 14
export const INFORMATION_REQUEST = 15
export const INFORMATION_REPLY = 16
export const MASK_REQUEST = 17
export const MASK_REPLY = 18

/** Codes of UNREACHABLE. */
export const NET_UNREACHABLE = 0
export const HOST_UNREACHABLE = 1
export const PROTOCOL_UNREACHABLE = 2
export const PORT_UNREACHABLE = 3
export const FRAGMENTATION_NEEDED = 4
export const ADMINISTRATIVELY_PROHIBITED = 13
/** Code of TIME_EXCEEDED. */
export const TTL_EXCEEDED = 0

const ERRORS =
  (1 << UNREACHABLE) | (1 << SOURCE_QUENCH) | (1 << REDIRECT) | (1 << TIME_EXCEEDED) | (1 << PARAMETER_PROBLEM)
const QUERIES = (1 << ECHO_REQUEST) | (1 << TIMESTAMP_REQUEST) | (1 << INFORMATION_REQUEST) | (1 << MASK_REQUEST)
const REPLIES = (1 << ECHO_REPLY) | (1 << TIMESTAMP_REPLY) | (1 << INFORMATION_REPLY) | (1 << MASK_REPLY)

/** No function below that takes a header reads past `end` if this is true. Ask once, before any of them. */
export const fits = (_mem: DataView, at: number, end: number): boolean => end - at >= HEADER_LEN

export const type = (mem: DataView, at: number): number => mem.getUint8(at + TYPE)
export const code = (mem: DataView, at: number): number => mem.getUint8(at + CODE)
/** As loaded. */
export const checksum = (mem: DataView, at: number): number => mem.getUint16(at + CHECKSUM, true)
/** The identifier of a query or reply, as loaded: NAT translates it as it translates a port. */
export const id = (mem: DataView, at: number): Port => mem.getUint16(at + ID, true)
export const seq = (mem: DataView, at: number): number => mem.getUint16(at + SEQ)
/** The MTU that a FRAGMENTATION_NEEDED tells; 0 from routers older than RFC 1191. */
export const nextHopMtu = (mem: DataView, at: number): number => mem.getUint16(at + NEXT_HOP_MTU)
/** Bytes of the embedded packet where extensions follow it (RFC 4884); 0 if it reaches to the end of the message. */
export const originalLength = (mem: DataView, at: number): number => mem.getUint8(at + ORIGINAL_LENGTH) << 2

/** Whether a message of this type is an error: it embeds the packet that it is about. */
export const isError = (type: number): boolean => type < 32 && ((ERRORS >>> type) & 1) !== 0
/** Whether a message of this type is a query: it has an identifier and wants a reply. */
export const isQuery = (type: number): boolean => type < 32 && ((QUERIES >>> type) & 1) !== 0
/** Whether a message of this type is a reply: it has the identifier of the query that it answers. */
export const isReply = (type: number): boolean => type < 32 && ((REPLIES >>> type) & 1) !== 0
/** The type of query that a type of reply answers, or -1. */
export const queryOf = (type: number): number => (isReply(type) ? (type === ECHO_REPLY ? ECHO_REQUEST : type - 1) : -1)

// Setters leave the checksum as it is.
export const setId = (mem: DataView, at: number, value: Port): void => mem.setUint16(at + ID, value, true)
const setChecksum = (mem: DataView, at: number, value: number): void => mem.setUint16(at + CHECKSUM, value, true)

/**
 * Repairs the checksum after a change of the data. Zero is sent as ones: both are right, unless the whole message is
 * zeros (an empty echo reply with identifier and sequence number 0), where only ones are right.
 */
export const adjustChecksum = (mem: DataView, at: number, delta: number): void =>
  setChecksum(mem, at, applyDelta(checksum(mem, at), delta) || 0xffff)

/** Computes the checksum of a message of `length` bytes whose other fields are set. */
export function writeChecksum(mem: DataView, at: number, length: number): void {
  setChecksum(mem, at, 0)
  setChecksum(mem, at, complement(sum(mem, at, length)))
}

/**
 * Writes the header of an error; `rest` is its second word in numeric order: the next-hop MTU, a pointer << 24, mostly
 * 0. The checksum is left zero: call writeChecksum when the embedded packet stands after it.
 */
export function writeError(mem: DataView, at: number, type: number, code: number, rest: number): void {
  mem.setUint8(at + TYPE, type)
  mem.setUint8(at + CODE, code)
  setChecksum(mem, at, 0)
  mem.setInt32(at + REST, rest)
}
