// ARP for IPv4 over Ethernet, RFC 826. Every function takes the memory a packet lies in and where its ARP header
// begins (after the Ethernet header). The kernel answers and resolves on a gateway; this is for drivers that stand
// alone, the lab, tests and the printer, so the high-level form may allocate.

import type { Addr } from './address.ts'

const HARDWARE = 0
const PROTOCOL = 2
const HARDWARE_LEN = 4
const PROTOCOL_LEN = 5
const OPERATION = 6
const SENDER_MAC = 8
const SENDER = 14
const TARGET_MAC = 18
const TARGET = 24
export const LEN = 28

const HARDWARE_ETHERNET = 1
const PROTOCOL_IPV4 = 0x0800
export const REQUEST = 1
export const REPLY = 2

/** Whether an ARP message about IPv4 over Ethernet lies whole before `end`. Ask once, before any function below. */
export const fits = (mem: DataView, at: number, end: number): boolean =>
  end - at >= LEN &&
  mem.getUint16(at + HARDWARE) === HARDWARE_ETHERNET &&
  mem.getUint16(at + PROTOCOL) === PROTOCOL_IPV4 &&
  mem.getUint8(at + HARDWARE_LEN) === 6 &&
  mem.getUint8(at + PROTOCOL_LEN) === 4

export const operation = (mem: DataView, at: number): number => mem.getUint16(at + OPERATION)
export const sender = (mem: DataView, at: number): Addr => mem.getInt32(at + SENDER, true)
export const target = (mem: DataView, at: number): Addr => mem.getInt32(at + TARGET, true)
/** Where the sender's MAC address lies. */
export const senderMacAt = (at: number): number => at + SENDER_MAC

export interface Arp {
  /** REQUEST or REPLY; other operations exist (RARP), and nothing here uses them. */
  readonly operation: number
  /** Six bytes. */
  readonly senderMac: Uint8Array
  readonly sender: Addr
  /** Six bytes; zeros in a request. */
  readonly targetMac: Uint8Array
  readonly target: Addr
}

/** Undefined if it does not lie whole before `end`, or is not about IPv4 over Ethernet. */
export function parse(mem: DataView, at: number, end: number): Arp | undefined {
  if (!fits(mem, at, end)) return undefined
  return {
    operation: operation(mem, at),
    senderMac: macAt(mem, at + SENDER_MAC),
    sender: sender(mem, at),
    targetMac: macAt(mem, at + TARGET_MAC),
    target: target(mem, at),
  }
}

/** Writes LEN bytes. */
export function emit(mem: DataView, at: number, arp: Arp): void {
  mem.setUint16(at + HARDWARE, HARDWARE_ETHERNET)
  mem.setUint16(at + PROTOCOL, PROTOCOL_IPV4)
  mem.setUint8(at + HARDWARE_LEN, 6)
  mem.setUint8(at + PROTOCOL_LEN, 4)
  mem.setUint16(at + OPERATION, arp.operation)
  setMacAt(mem, at + SENDER_MAC, arp.senderMac)
  mem.setInt32(at + SENDER, arp.sender, true)
  setMacAt(mem, at + TARGET_MAC, arp.targetMac)
  mem.setInt32(at + TARGET, arp.target, true)
}

const macAt = (mem: DataView, at: number): Uint8Array => Uint8Array.from({ length: 6 }, (_, i) => mem.getUint8(at + i))

function setMacAt(mem: DataView, at: number, mac: Uint8Array): void {
  for (let i = 0; i < 6; i++) mem.setUint8(at + i, mac[i]!)
}
