// Dispatch by the kernel: the receive sockets that all shards have on one interface form a group, and a classic BPF
// program says for each packet which member gets it. Runs on the coordinator.
// Authority: packet(7) PACKET_FANOUT, net/packet/af_packet.c (fanout_add, packet_notifier), linux/filter.h.
//
// Member number is shard number. A member is numbered by the order of joining until the link goes down, and after that
// by the order in which the sockets were made, so both are the shards' order. A socket leaves its group only by being
// closed, and can't be bound again while it is in one.
//
//   a socket is          packets               then
//   closed off           refused by a filter   it is bound, and joins: it would receive everything in between
//   joined               refused               all others have joined, and there is a program: without, all is member 0's
//   open                 as the program says   setProgram() replaces the program; nothing is lost
// Never: opening before the last has joined; joining out of order.

import {
  addressOf,
  getsockopt,
  SO_ATTACH_FILTER,
  SO_DETACH_FILTER,
  SOL_PACKET,
  SOL_SOCKET,
  SystemCallError,
  setsockopt,
  setsockoptInt,
} from './syscalls.ts'

const PACKET_FANOUT = 18
const PACKET_FANOUT_DATA = 22
const FANOUT_CBPF = 6
/** PACKET_IGNORE_OUTGOING has no effect on a socket in a group. */
const FANOUT_IGNORE_OUTGOING = 0x4000
/** The kernel finds a number that no other group of this network namespace has. */
const FANOUT_UNIQUE_ID = 0x2000
const TYPE_AND_FLAGS = 16
const ID_MASK = 0xffff

/** struct sock_filter: u16 code, u8 jt, u8 jf, u32 k */
const INSTRUCTION_BYTES = 8
const RET_K = 6
const REFUSE_ALL = Uint8Array.of(RET_K, 0, 0, 0, 0, 0, 0, 0)

/** Before it is bound: the socket receives nothing until its group opens. */
export const closeOff = (fd: number): void => void setProgramOption(fd, SOL_SOCKET, SO_ATTACH_FILTER, REFUSE_ALL)

export class FanoutGroup {
  /** By shard, made in this order, closed off, bound. */
  readonly #fds: readonly number[]
  #id = 0
  #joined = 0
  #isOpen = false
  #program: Uint8Array | undefined

  constructor(fds: readonly number[], program?: Uint8Array) {
    this.#fds = fds
    this.#program = program
  }

  get program(): Uint8Array | undefined {
    return this.#program
  }

  /** An array of struct sock_filter. The program sees a packet from its network header on, and returns a shard. */
  setProgram(program: Uint8Array): void {
    this.#program = program
    if (this.#isOpen) setProgramOption(this.#fds[0]!, SOL_PACKET, PACKET_FANOUT_DATA, program)
    else this.settle()
  }

  /**
   * Goes as far as it can towards being open; false if the kernel takes no more members at present: before Linux 6.13
   * the link must be up. Throws SystemCallError.
   */
  settle(): boolean {
    for (; this.#joined < this.#fds.length; this.#joined++) if (!this.#join(this.#fds[this.#joined]!)) return false
    if (this.#isOpen || !this.#program) return true
    setProgramOption(this.#fds[0]!, SOL_PACKET, PACKET_FANOUT_DATA, this.#program)
    for (const fd of this.#fds) setsockoptInt(fd, SOL_SOCKET, SO_DETACH_FILTER, 0)
    this.#isOpen = true
    return true
  }

  #join(fd: number): boolean {
    const unique = this.#joined === 0 ? FANOUT_UNIQUE_ID : 0
    const how = FANOUT_CBPF | FANOUT_IGNORE_OUTGOING | unique
    try {
      setsockoptInt(fd, SOL_PACKET, PACKET_FANOUT, this.#id | (how << TYPE_AND_FLAGS))
    } catch (error) {
      if (error instanceof SystemCallError && error.code === 'EINVAL') return false
      throw error
    }
    if (unique) this.#id = fanoutOf(fd) & ID_MASK
    return true
  }
}

function fanoutOf(fd: number): number {
  const value = new Uint8Array(4)
  getsockopt(fd, SOL_PACKET, PACKET_FANOUT, value)
  return new DataView(value.buffer).getUint32(0, true)
}

/** Options that take a struct sock_fprog: u16 length in instructions, then at 8 the address of the first one. */
function setProgramOption(fd: number, level: number, option: number, program: Uint8Array): void {
  // Shared memory, because the heap's moves.
  const instructions = new Uint8Array(new SharedArrayBuffer(program.length))
  instructions.set(program)
  const fprog = new DataView(new ArrayBuffer(16))
  fprog.setUint16(0, program.length / INSTRUCTION_BYTES, true)
  fprog.setBigUint64(8, BigInt(addressOf(instructions)), true)
  setsockopt(fd, level, option, new Uint8Array(fprog.buffer))
}
