// The floods that hosts are held against: what one packet of each is, by its number, so that a flood may be as long as
// one likes and is the same every time. Nobody needs to answer a flood's sender but by a rule (answers.ts): everybody
// begins with the sequence number 0. floods.long.test.ts sends them in virtual time.

import { type EthernetSpec, type FrameSpec, fragments, frame } from '../../src/testing/builder.ts'
import * as icmp from '../../src/wire/icmp.ts'
import { GREETING } from './answers.ts'

export type FloodSide = 'inside' | 'outside'

/** Who is where. */
export interface Places {
  /** The inside host that floods. */
  readonly attacker: string
  /** A server outside, behind the gateway's default route. */
  readonly server: string
  /** The gateway's own addresses. */
  readonly gatewayInside: string
  readonly gatewayOutside: string
}

export interface Packet {
  readonly side: FloodSide
  readonly spec: FrameSpec
  /** Of the fragments that the packet is cut into, which one this is; undefined: it isn't cut. */
  readonly piece?: number
}

export interface Flood {
  readonly name: FloodName
  /** What comes before the flood: connections that it goes by, in this order, each when the one before is answered. */
  readonly opening: (places: Places) => readonly Packet[][]
  readonly packet: (i: number, places: Places) => Packet
}

/** Of the port forwards that floods need: the same inside and outside. */
export const FORWARDED_TCP = 8080
export const FORWARDED_UDP = 5353
/** Where everybody answers whoever asks. */
export const FTP = 21
/** Nobody listens there, and NAT has it not. */
const CLOSED = 9

/** Inside and outside prefixes of which no host exists: forged senders, and neighbours that nobody is. */
export const FORGED_INSIDE = { address: '10.128.0.0', length: 9 } as const
export const SILENT_NEIGHBOURS = { address: '198.18.0.0', length: 15 } as const

/** Connections that a flood by helped connections goes by: each has one expectation at a time. */
const HELPED = 512
/** What the server has said when it has greeted (answers.ts). */
const GREETED = 1 + GREETING.length
const PAYLOAD = 1024
const PIECE = 512

const dotted = (base: number, i: number): string => {
  const address = base + i
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.')
}
/** Addresses far away that don't answer (RFC 6598's, none of which is a host here). */
const far = (i: number): string => dotted(0x64400000, i & 0x3fffff)
const stranger = (i: number): string => dotted(0x0b000000, (i * 7919) & 0xffffff)
const forged = (i: number): string => dotted(0x0a800000, (i * 7919) & 0x7fffff)
const silent = (i: number): string => dotted(0xc6120000, 256 + (i & 0xffff))
const anyPort = (i: number): number => 1024 + (i % 60_000)
const fewPorts = (i: number): number => 40_000 + (i & 15)

const syn = (src: string, dst: string, sport: number, dport: number): FrameSpec => ({
  ip: { src, dst },
  tcp: { sport, dport, flags: 'S' },
})
const datagram = (src: string, dst: string, sport: number, dport: number): FrameSpec => ({
  ip: { src, dst },
  udp: { sport, dport },
  payload: 'flood',
})

const inside = (spec: FrameSpec): Packet => ({ side: 'inside', spec })
const outside = (spec: FrameSpec): Packet => ({ side: 'outside', spec })
const nothing = (): readonly Packet[][] => []

/** Control connections to the server's FTP port, established and greeted; segments follow at number 1. */
function helpedOpening({ attacker, server }: Places): readonly Packet[][] {
  const each = (flags: string) =>
    Array.from({ length: HELPED }, (_, i) =>
      inside({ ip: { src: attacker, dst: server }, tcp: { sport: 30_000 + i, dport: FTP, flags } }),
    )
  return [each('S'), each('A')]
}

const helpedSegment = (i: number, { attacker, server }: Places, offset: number, payload: string): Packet =>
  inside({
    ip: { src: attacker, dst: server },
    tcp: { sport: 30_000 + (i % HELPED), dport: FTP, flags: 'PA', seq: 1 + offset, ack: GREETED },
    payload,
  })

/** Lines of one length: each names another port of the flooding host. */
function portCommand(i: number, places: Places): Packet {
  const line = (number: number): string => {
    const [high, low] = [100 + (number % 100), 100 + (Math.floor(number / 100) % 100)]
    return `PORT ${places.attacker.replaceAll('.', ',')},${high},${low}\r\n`
  }
  const before = Math.floor(i / HELPED)
  return helpedSegment(i, places, before * line(0).length, line(i))
}

function fragmented(i: number, { attacker, server, gatewayOutside }: Places, side: FloodSide): Packet {
  const from = side === 'inside' ? attacker : stranger(i >> 4)
  const [to, dport] = side === 'inside' ? [server, 7000] : [gatewayOutside, FORWARDED_UDP]
  return {
    side,
    spec: {
      ip: { src: from, dst: to, id: i & 0xffff },
      udp: { sport: fewPorts(i), dport },
      payload: new Uint8Array(PAYLOAD),
    },
    piece: 0,
  }
}

/** Packets that the gateway answers, or that it passes an error on for. */
function provoking(i: number, { attacker, server, gatewayOutside }: Places): Packet {
  switch (i % 4) {
    case 0:
      return inside({ ...datagram(attacker, far(i), fewPorts(i), 7000), ip: { src: attacker, dst: far(i), ttl: 1 } })
    case 1: {
      const ip = { src: stranger(i), dst: gatewayOutside, ttl: 1 }
      return outside({ ...syn(stranger(i), gatewayOutside, anyPort(i), FORWARDED_TCP), ip })
    }
    case 2:
      return inside({ ip: { src: attacker, dst: server }, tcp: { sport: anyPort(i), dport: 80, flags: 'A' } })
    default: {
      // About a packet that nobody has sent.
      const embedded = frame(datagram(gatewayOutside, server, anyPort(i), 7000)).subarray(14, 42)
      return outside({
        ip: { src: server, dst: gatewayOutside },
        icmp: { type: icmp.UNREACHABLE, code: icmp.PORT_UNREACHABLE, embedded },
      })
    }
  }
}

const FLOOD_LIST = [
  {
    name: 'syn-inside',
    opening: nothing,
    packet: (i, { attacker }) => inside(syn(attacker, far(i), anyPort(i), 80)),
  },
  {
    name: 'syn-forged',
    opening: nothing,
    packet: (i) => inside(syn(forged(i), far(i), anyPort(i), 80)),
  },
  {
    name: 'syn-forward',
    opening: nothing,
    packet: (i, { gatewayOutside }) => outside(syn(stranger(i), gatewayOutside, anyPort(i), FORWARDED_TCP)),
  },
  {
    name: 'syn-ftp',
    opening: nothing,
    packet: (i, { attacker, server }) => inside(syn(attacker, server, anyPort(i), FTP)),
  },
  {
    name: 'udp-inside',
    opening: nothing,
    packet: (i, { attacker }) => inside(datagram(attacker, far(i), anyPort(i), 7000)),
  },
  {
    name: 'udp-forward',
    opening: nothing,
    packet: (i, { gatewayOutside }) => outside(datagram(stranger(i), gatewayOutside, anyPort(i), FORWARDED_UDP)),
  },
  { name: 'fragments-inside', opening: nothing, packet: (i, places) => fragmented(i, places, 'inside') },
  { name: 'fragments-outside', opening: nothing, packet: (i, places) => fragmented(i, places, 'outside') },
  {
    // Of datagrams whose first fragment never comes.
    name: 'fragments-orphan',
    opening: nothing,
    packet: (i, places) => ({ ...fragmented(i, places, i % 2 === 0 ? 'inside' : 'outside'), piece: 1 }),
  },
  {
    name: 'icmp-echo',
    opening: nothing,
    packet: (i, { attacker }) =>
      inside({ ip: { src: attacker, dst: far(i) }, icmp: { type: icmp.ECHO_REQUEST, id: i & 0xffff, seq: 1 } }),
  },
  { name: 'icmp-errors', opening: nothing, packet: provoking },
  { name: 'expectations', opening: helpedOpening, packet: portCommand },
  {
    name: 'silent-neighbours',
    opening: nothing,
    packet: (i, { attacker }) => inside(datagram(attacker, silent(i), fewPorts(i), 7000)),
  },
  {
    // The byte before each is missing, and no segment can go on for good.
    name: 'gaps',
    opening: helpedOpening,
    packet: (i, places) => helpedSegment(i, places, 1 + 2 * Math.floor(i / HELPED), 'x'),
  },
] as const satisfies readonly {
  readonly name: string
  readonly opening: Flood['opening']
  readonly packet: Flood['packet']
}[]

export type FloodName = (typeof FLOOD_LIST)[number]['name']
export const FLOODS: readonly Flood[] = FLOOD_LIST

export const FLOOD_NAMES: readonly FloodName[] = FLOOD_LIST.map(({ name }) => name)
export const floodNamed = (name: string): Flood | undefined => FLOODS.find((flood) => flood.name === name)

/** The same packet, for a closed port of the gateway's own: it comes as far as the gateway, and no further. */
export function atTheGateway({ side, spec, piece }: Packet, { gatewayInside, gatewayOutside }: Places): Packet {
  const ip = { ...spec.ip, dst: side === 'inside' ? gatewayInside : gatewayOutside, ttl: 64 }
  return {
    side,
    spec: {
      ...spec,
      ip,
      ...(spec.tcp && { tcp: { ...spec.tcp, dport: CLOSED } }),
      ...(spec.udp && { udp: { ...spec.udp, dport: CLOSED } }),
    },
    ...(piece !== undefined && { piece }),
  }
}

/** The packet as a frame. */
export function frameOf({ spec, piece }: Packet, eth: EthernetSpec): Uint8Array {
  const whole = frame({ ...spec, eth })
  return piece === undefined ? whole : fragments(whole, PIECE)[piece]!
}
