// A gateway between two hosts, inside and outside, that has no address and forwards nothing: what passes, the program
// has sent, by slots that a test has written.

import { portsWord } from '../../src/conntrack/terms.ts'
import { close, interfaceIndex } from '../../src/io/syscalls.ts'
import { createSharedValue, loadProgram, viewOfValue } from '../../src/offload/bpf.ts'
import { Hops } from '../../src/offload/hops.ts'
import { bucketsFor, valueBytes } from '../../src/offload/layout.ts'
import { type Attachment, attach, type Way } from '../../src/offload/links.ts'
import { offloadProgram } from '../../src/offload/program.ts'
import { prepareValue, Slots } from '../../src/offload/slots.ts'
import { type FrameSpec, frame } from '../../src/testing/builder.ts'
import { parseAddress, parseMac } from '../../src/wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../../src/wire/ipv4.ts'

/** The gateway's interfaces by side, and the hosts behind them. */
export const INTERFACES = ['lan0', 'wan0'] as const
export const GATEWAY_MACS = ['02:00:00:00:01:01', '02:00:00:00:02:01'] as const
export const HOST_MACS = ['02:00:00:00:01:05', '02:00:00:00:02:fe'] as const

const CLIENT = '10.0.0.5'
const SERVER = '192.0.2.7'
const EXTERNAL = '203.0.113.1'
const PORTS = { client: 5000, server: 80, external: 40000 }
const MTU = 1500

export type Protocol = 'tcp' | 'udp'

interface Ends {
  readonly src: string
  readonly dst: string
  readonly sport: number
  readonly dport: number
}
const { client, server, external } = PORTS
/** By side: how the flow's packets come in, and how they leave by the other side. */
const COMES_IN: readonly [Ends, Ends] = [
  { src: CLIENT, dst: SERVER, sport: client, dport: server },
  { src: SERVER, dst: EXTERNAL, sport: server, dport: external },
]
const LEAVES: readonly [Ends, Ends] = [
  { src: EXTERNAL, dst: SERVER, sport: external, dport: server },
  { src: SERVER, dst: CLIENT, sport: server, dport: client },
]

/** What may differ between packets of a flow. */
export interface Kind {
  readonly payload: Uint8Array
  readonly rest: Pick<FrameSpec, 'partialChecksum' | 'gso'>
}

const spec = (
  protocol: Protocol,
  { src, dst, sport, dport }: Ends,
  ttl: number,
  { payload, rest }: Kind,
): FrameSpec => ({
  ip: { src, dst, ttl },
  ...(protocol === 'tcp' ? { tcp: { sport, dport, flags: 'PA' } } : { udp: { sport, dport } }),
  payload,
  ...rest,
})

/** A packet as a host sends it, and as the other one must get it. */
export function packetOf(protocol: Protocol, side: 0 | 1, kind: Kind): { sent: Uint8Array; wanted: Uint8Array } {
  const other = 1 - side
  const sent = { src: HOST_MACS[side]!, dst: GATEWAY_MACS[side]! }
  const wanted = { src: GATEWAY_MACS[other]!, dst: HOST_MACS[other]! }
  return {
    sent: frame({ eth: sent, ...spec(protocol, COMES_IN[side]!, 64, kind) }),
    wanted: frame({ eth: wanted, ...spec(protocol, LEAVES[side]!, 63, kind) }),
  }
}

export interface OffloadOptions {
  readonly way?: Way | undefined
  /** Packets are handed to the other end of the cable at once. */
  readonly peer?: boolean
  /** Where packets from inside leave, if not by the outside interface. */
  readonly leavesBy?: string
}

/** Map, programs and links, in the gateway's namespace; with a flow of UDP and one of TCP. */
export class Offload {
  readonly slots: Slots
  /** By protocol, then by side. */
  readonly flows: Readonly<Record<Protocol, readonly [number, number]>>
  readonly attachments: readonly Attachment[]
  readonly #fds: readonly number[]

  constructor({ way, peer = false, leavesBy = INTERFACES[1] }: OffloadOptions = {}) {
    const options = { seed: 7, buckets: bucketsFor(64) }
    const map = createSharedValue('natloom_test', valueBytes(options.buckets))
    const value = viewOfValue(map)
    prepareValue(value, options)
    const slots = new Slots(value, 0)
    const hops = new Hops(value)
    for (const side of [0, 1] as const)
      hops.set(side, {
        interfaceIndex: interfaceIndex(side === 0 ? leavesBy : INTERFACES[0]),
        mtu: MTU,
        peer,
        own: parseMac(GATEWAY_MACS[1 - side]!),
        neighbour: parseMac(HOST_MACS[1 - side]!),
      })
    const begin = (protocol: number, side: 0 | 1): number => {
      const [from, to] = [COMES_IN[side], LEAVES[side]]
      const ports = portsWord(from.sport, from.dport)
      const slot = slots.claim(parseAddress(from.src), parseAddress(from.dst), ports, protocol, side)
      slots.translate(slot, parseAddress(to.src), parseAddress(to.dst), portsWord(to.sport, to.dport))
      slots.renew(slot, slots.version(), side, hops.generation(side))
      slots.publish(slot, protocol, side, 0)
      slots.activate(slot)
      return slot
    }
    this.slots = slots
    this.flows = {
      udp: [begin(PROTO_UDP, 0), begin(PROTO_UDP, 1)],
      tcp: [begin(PROTO_TCP, 0), begin(PROTO_TCP, 1)],
    }
    const programs = [0, 1].map((side) =>
      loadProgram('natloom_test', offloadProgram({ map: map.fd, side, ...options }).code),
    )
    this.#fds = [map.fd, ...programs]
    this.attachments = programs.map((program, side) => attach(program, interfaceIndex(INTERFACES[side]!), way))
  }

  detach(): void {
    for (const attachment of this.attachments) attachment.detach()
    for (const fd of this.#fds) close(fd)
  }
}
