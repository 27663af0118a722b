// The filters of packet sockets: which packets a socket gets at all, before its fanout group's program says which
// shard has them. Authority: socket(7) SO_ATTACH_FILTER, linux/filter.h (SKF_AD_PKTTYPE), net/core/dev.c
// (__netif_receive_skb_core). Nothing is kept here.
//
// A receiving socket is bound to ETH_P_IP: it is served behind tc and nft ingress, beside the kernel's own IPv4. There
// a frame for a VLAN that no interface has comes without its tag, as a packet for another host; so do, in promiscuous
// mode, frames to other MAC addresses. What is broadcast or multicast is never translated. So only packets for this
// host are taken. (A tag of VLAN 0 says a priority and no VLAN; its packet is an ordinary one.)

import { addressOf, SO_ATTACH_FILTER, SOL_SOCKET, setsockopt } from './syscalls.ts'

/** struct sock_filter: u16 code, u8 jt, u8 jf, u32 k */
const INSTRUCTION_BYTES = 8
const LD_B_ABS = 0x30
const JEQ_K = 0x15
const RET_K = 0x06
/** SKF_AD_OFF + SKF_AD_PKTTYPE: not a place in the packet, but how it was addressed on the link. */
const PACKET_TYPE = -0x1000 + 4
const PACKET_HOST = 0
const WHOLE_PACKET = 0xffffffff

function program(...instructions: readonly (readonly [code: number, jt: number, jf: number, k: number])[]): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(instructions.length * INSTRUCTION_BYTES))
  for (const [i, [code, jt, jf, k]] of instructions.entries()) {
    const at = i * INSTRUCTION_BYTES
    bytes.setUint16(at, code, true)
    bytes.setUint8(at + 2, jt)
    bytes.setUint8(at + 3, jf)
    bytes.setUint32(at + 4, k >>> 0, true)
  }
  return new Uint8Array(bytes.buffer)
}

export const REFUSE_ALL = program([RET_K, 0, 0, 0])
export const TAKE_OURS = program(
  [LD_B_ABS, 0, 0, PACKET_TYPE],
  [JEQ_K, 0, 1, PACKET_HOST],
  [RET_K, 0, 0, WHOLE_PACKET],
  [RET_K, 0, 0, 0],
)

/** Gives the socket a filter in place of the one that it has, in one step. To be called before the socket is bound. */
export const setFilter = (fd: number, filter: Uint8Array): void =>
  setProgramOption(fd, SOL_SOCKET, SO_ATTACH_FILTER, filter)

/** Sets an option that takes a struct sock_fprog: u16 number of instructions, at 8 the address of the first one. */
export function setProgramOption(fd: number, level: number, option: number, program: Uint8Array): void {
  // Shared memory has a fixed address; the garbage collector may move what lies on the heap.
  const instructions = new Uint8Array(new SharedArrayBuffer(program.length))
  instructions.set(program)
  const fprog = new DataView(new ArrayBuffer(16))
  fprog.setUint16(0, program.length / INSTRUCTION_BYTES, true)
  fprog.setBigUint64(8, BigInt(addressOf(instructions)), true)
  setsockopt(fd, level, option, new Uint8Array(fprog.buffer))
}
