// Dispatch by the kernel: the receive sockets that all shards have on one interface form a group, and a classic BPF
// program says for each packet which member gets it. Authority: packet(7) PACKET_FANOUT, net/packet/af_packet.c
// (fanout_add, packet_notifier), linux/filter.h. Owner: the coordinator.
//
// A member's number is its shard's number. The kernel numbers members by the order in which they joined until the link
// goes down, and after that by the order in which the sockets were made: so both orders are that of the shards. A
// socket leaves its group only by being closed, and can't be bound again while it is in a group.
//
// Filters are in af-packet-filter.ts.
//
//   a socket is   its filter     it stays so until
//   closed off    refuses all    it is bound and joins its group; else it would receive all packets
//   joined        refuses all    all have joined and there is a program; without one, member 0 gets all
//   open          takes ours     it is closed; setProgram() replaces the program, and nothing is lost
// Never: a socket opened before the last one has joined; joining in another order than that of the shards; an open
// socket without a filter.

import { setFilter, setProgramOption, TAKE_OURS } from './af-packet-filter.ts'
import { getsockopt, SOL_PACKET, SystemCallError, setsockoptInt } from './syscalls.ts'

const PACKET_FANOUT = 18
const PACKET_FANOUT_DATA = 22
const FANOUT_CBPF = 6
/** The kernel chooses a group number that is free in this network namespace. */
const FANOUT_UNIQUE_ID = 0x2000
const TYPE_AND_FLAGS = 16
const ID_MASK = 0xffff

export class FanoutGroup {
  /** By shard. All are closed off and bound. */
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

  /**
   * Sets or replaces the program, an array of struct sock_filter. It sees a packet from its network header on and
   * returns a shard's number.
   */
  setProgram(program: Uint8Array): void {
    this.#program = program
    if (this.#isOpen) setProgramOption(this.#fds[0]!, SOL_PACKET, PACKET_FANOUT_DATA, program)
    else this.settle()
  }

  /**
   * Joins the members and opens the group, as far as that is possible now. Returns false if the kernel takes no members
   * at present: before Linux 6.13 the link must be up. Throws SystemCallError.
   */
  settle(): boolean {
    for (; this.#joined < this.#fds.length; this.#joined++) if (!this.#join(this.#fds[this.#joined]!)) return false
    if (this.#isOpen || !this.#program) return true
    setProgramOption(this.#fds[0]!, SOL_PACKET, PACKET_FANOUT_DATA, this.#program)
    for (const fd of this.#fds) setFilter(fd, TAKE_OURS)
    this.#isOpen = true
    return true
  }

  #join(fd: number): boolean {
    const unique = this.#joined === 0 ? FANOUT_UNIQUE_ID : 0
    const how = FANOUT_CBPF | unique
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
