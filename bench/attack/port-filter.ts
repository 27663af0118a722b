// A socket's filter that takes packets to some ports of an address, TCP or UDP, and nothing that the host itself
// sends. Authority: Documentation/networking/filter.rst, linux/filter.h.

import { parseAddress, swap32 } from '../../src/wire/address.ts'

const LD_B_ABS = 0x30
const LD_W_ABS = 0x20
const LD_H_ABS = 0x28
const LD_H_IND = 0x48
const LDX_MSH = 0xb1
const JEQ_K = 0x15
const JSET_K = 0x45
const RET_K = 0x06
const INSTRUCTION_BYTES = 8
const ETH = 14
/** SKF_AD_OFF + SKF_AD_PKTTYPE: how it was addressed on the link. */
const PACKET_TYPE = -0x1000 + 4
const PACKET_HOST = 0
const FRAGMENT_OFFSET = ETH + 6
const PROTOCOL = ETH + 9
const DESTINATION = ETH + 16
const TCP = 6
const UDP = 17

type Instruction = readonly [code: number, jt: number, jf: number, k: number]

export function portFilter(address: string, ports: readonly number[]): Uint8Array {
  // How far it is to the last instruction, which refuses; the one before it takes the whole packet.
  const n = ports.length
  const program: Instruction[] = [
    [LD_B_ABS, 0, 0, PACKET_TYPE],
    [JEQ_K, 0, n + 9, PACKET_HOST],
    [LD_W_ABS, 0, 0, DESTINATION],
    [JEQ_K, 0, n + 7, swap32(parseAddress(address))],
    [LD_B_ABS, 0, 0, PROTOCOL],
    [JEQ_K, 1, 0, TCP],
    [JEQ_K, 0, n + 4, UDP],
    [LD_H_ABS, 0, 0, FRAGMENT_OFFSET],
    [JSET_K, n + 2, 0, 0x1fff],
    [LDX_MSH, 0, 0, ETH],
    [LD_H_IND, 0, 0, ETH + 2],
    ...ports.map((port, i): Instruction => [JEQ_K, n - i, 0, port]),
    [RET_K, 0, 0, 0],
    [RET_K, 0, 0, 0xffff],
  ]
  const bytes = new DataView(new ArrayBuffer(program.length * INSTRUCTION_BYTES))
  for (const [i, [code, jt, jf, k]] of program.entries()) {
    bytes.setUint16(i * INSTRUCTION_BYTES, code, true)
    bytes.setUint8(i * INSTRUCTION_BYTES + 2, jt)
    bytes.setUint8(i * INSTRUCTION_BYTES + 3, jf)
    bytes.setUint32(i * INSTRUCTION_BYTES + 4, k >>> 0, true)
  }
  return new Uint8Array(bytes.buffer)
}
