// What the reference NAT knows of connections and mappings: who has which external port, how long, and who may come in.
// Times are in milliseconds since the gateway's start; natloom counts whole seconds, and so does this.

import type { Dependence } from '../../src/nat/settings.ts'
import { FIRST_PORT, FORWARDS, LAST_PORT, PORTLESS, TIMEOUTS } from '../fuzz/settings.ts'
import { type Ends, ICMP, type Packet, TCP, UDP } from './reference-packet.ts'
import { ReferenceTcp } from './reference-tcp.ts'

export const INSIDE = 0
export const OUTSIDE = 1
export type Side = typeof INSIDE | typeof OUTSIDE

const address = (text: string): number => text.split('.').reduce((number, octet) => number * 256 + Number(octet), 0)
export const EXTERNAL = address('203.0.113.1')
export const GATEWAY = address('10.0.0.1')
/** It does not answer ARP. */
export const SILENT = address('203.0.113.9')
const LAN_PREFIX = address('10.0.0.0')
const GRE = 47
const DNS = 53
const FTP = 21
const SWEEP_MS = 2000
const EXPECTATION_MS = 300_000
/** Seconds that a connection from outside, which the inside has answered, waits for an ACK. */
const HALF_OPEN_FROM_OUTSIDE = 60
const FORWARDED = FORWARDS.map((forward) => ({ ...forward, toAddress: address(forward.toAddress) }))

export interface Connection {
  readonly protocol: number
  /** Of ICMP: the identifier inside and outside; the type is the remote port. Without ports: 0. */
  readonly inside: number
  readonly insidePort: number
  readonly remote: number
  readonly remotePort: number
  readonly externalPort: number
  readonly isForwarded: boolean
  readonly wasExpected: boolean
  readonly isHelped: boolean
  /** Which side has opened it. */
  origin: Side
  hasReply: boolean
  seen: number
  readonly tcp: ReferenceTcp | undefined
}

type Tuple = Ends & { readonly protocol: number }

interface Endpoint {
  readonly inside: number
  readonly insidePort: number
}

/** What a helper has announced: who comes from this server to this external port gets to that inside endpoint. */
export interface Expectation {
  readonly server: number
  readonly externalPort: number
  readonly inside: number
  readonly insidePort: number
  readonly since: number
}

const isInsideAddress = (at: number): boolean => (at & 0xffffff00) >>> 0 === LAN_PREFIX
/** Ours, the interface's broadcast address, or one that a third interface leads to. */
const isNoSender = (at: number): boolean =>
  at === EXTERNAL || at === GATEWAY || at === GATEWAY + 254 || (at & 0xffff0000) >>> 0 === address('172.16.0.0')
/** True if the routes lead back to a sender by the side that it came by. */
export const isSender = (at: number, side: Side): boolean =>
  !isNoSender(at) && isInsideAddress(at) === (side === INSIDE)
const isDestination = (at: number): boolean => {
  const first = at >>> 24
  if (isNoSender(at) || isInsideAddress(at) || at >>> 16 === 0xa9fe) return false
  return first !== 0 && first !== 127 && first < 224
}
const hasPorts = (protocol: number): boolean => protocol === TCP || protocol === UDP
const isMapped = ({ isForwarded, protocol }: Connection): boolean =>
  !isForwarded && (hasPorts(protocol) || protocol === ICMP)
const hasSent = ({ origin, hasReply }: Connection): boolean => origin === INSIDE || hasReply
const holds = (connection: Connection): boolean => hasSent(connection) || connection.wasExpected

export class ReferenceConnections {
  readonly expectations: Expectation[] = []
  readonly #unseen: (Endpoint & Pick<Connection, 'protocol' | 'remote' | 'remotePort' | 'seen'>)[] = []
  #all: Connection[] = []
  readonly #filtering: Dependence

  constructor(filtering: Dependence) {
    this.#filtering = filtering
  }

  #isAlive({ seen, ...connection }: Connection, now: number): boolean {
    return Math.floor(now / 1000) - Math.floor(seen / 1000) < timeoutOf(connection)
  }

  /** A mapping is there until the expiry sweep has met its connection, which takes about a second. */
  #findSwept(now: number, matches: (connection: Connection) => boolean): Connection | undefined {
    return this.#find(Math.max(0, now - SWEEP_MS), matches)
  }

  #find(now: number, matches: (connection: Connection) => boolean): Connection | undefined {
    return this.#all.find((each) => matches(each) && this.#isAlive(each, now))
  }

  end(connection: Connection): void {
    this.#all = this.#all.filter((each) => each !== connection)
  }

  /**
   * The last connection that a helper reads with this remote end, and that was not over at this time: 0 for what was
   * kept, which may come late; but a SYN opens another one then.
   */
  helped(at: number, remote: number, remotePort: number, isIts: (connection: Connection) => boolean) {
    return this.#all.findLast(
      (each) =>
        each.isHelped &&
        each.remote === remote &&
        each.remotePort === remotePort &&
        isIts(each) &&
        this.#isAlive(each, at),
    )
  }

  /** A helper may have held the bytes that have come: they were believed, and their connection goes on. */
  keepHelped(packet: Packet, from: Side, now: number): void {
    const connection = from === INSIDE ? this.fromInside(packet, now) : this.fromOutside(packet, now)
    if (connection?.isHelped) connection.seen = now
  }

  fromInside({ protocol, src, sport, dst, dport }: Tuple, now: number): Connection | undefined {
    return this.#find(
      now,
      (each) =>
        each.protocol === protocol &&
        each.inside === src &&
        each.insidePort === sport &&
        each.remote === dst &&
        each.remotePort === dport,
    )
  }

  /** By a packet to one of our addresses. */
  fromOutside({ protocol, src, sport, dport }: Omit<Tuple, 'dst'>, now: number): Connection | undefined {
    return this.#find(
      now,
      (each) =>
        each.protocol === protocol && each.remote === src && each.remotePort === sport && each.externalPort === dport,
    )
  }

  /** The connection that a first packet from inside opens by this external port; or why it may not. */
  openFromInside(packet: Packet, externalPort: number, now: number): Connection | string {
    const { protocol, src, sport, dst, dport } = packet
    const isHairpin = dst === EXTERNAL && hasPorts(protocol)
    if (!isSender(src, INSIDE)) return 'a martian source inside'
    if (!isHairpin && !isDestination(dst)) return 'a destination that is never forwarded'
    const fault = openingFault(packet)
    if (fault) return fault
    const forward = FORWARDED.find((at) => at.protocol === protocol && at.toAddress === src && at.toPort === sport)
    if (forward && forward.port !== externalPort) return `external port ${externalPort} of a forwarded endpoint`
    const unmapped = forward !== undefined || !(hasPorts(protocol) || protocol === ICMP)
    const portFault = unmapped ? undefined : this.#portFault(packet, externalPort, now)
    if (portFault) return portFault
    const isTaken = this.fromOutside({ protocol, src: dst, sport: dport, dport: externalPort }, now)
    if (isTaken) return 'the outside tuple of another connection'
    return this.#add(packet.protocol, {
      ...{ inside: src, insidePort: sport, remote: dst, remotePort: dport, externalPort, origin: INSIDE, seen: now },
      isForwarded: unmapped,
      wasExpected: false,
    })
  }

  /** An inside endpoint has one external port, and no other endpoint has it. */
  #portFault({ protocol, src, sport }: Packet, externalPort: number, now: number): string | undefined {
    const isIts = ({ inside, insidePort }: Connection): boolean => inside === src && insidePort === sport
    const its = this.#find(
      now,
      // How long a helped connection lives, which this doesn't track, it doesn't know; and one from outside that was
      // answered in the second before the sweep has met it goes on by a mapping that has ended.
      (each) => each.protocol === protocol && isMapped(each) && isIts(each) && each.origin === INSIDE && !each.isHelped,
    )
    if (its) return its.externalPort === externalPort ? undefined : `port ${externalPort}, has ${its.externalPort}`
    const other = this.#find(
      now,
      (each) =>
        each.protocol === protocol &&
        isMapped(each) &&
        each.externalPort === externalPort &&
        !isIts(each) &&
        !each.isHelped,
    )
    if (other) return `external port ${externalPort} of another endpoint`
    const isOurs = externalPort >= FIRST_PORT && externalPort <= LAST_PORT
    return isOurs ? undefined : `external port ${externalPort}, which NAT does not have`
  }

  /** A packet from inside whose connection is there, by a port not yet seen: it waits for its next hop, say. */
  noteUnseen({ protocol, src, sport, dst, dport }: Packet, now: number): void {
    this.#unseen.push({ protocol, inside: src, insidePort: sport, remote: dst, remotePort: dport, seen: now })
  }

  /** The connection that a first packet from outside, which has got to this endpoint, opens; or why it may not. */
  openFromOutside(packet: Packet, to: Endpoint, fromUs: boolean, now: number): Connection | string {
    const { protocol, src, sport, dst, dport } = packet
    if (dst !== EXTERNAL) return 'to nobody'
    if (!fromUs && !isSender(src, OUTSIDE)) return 'a martian source outside'
    const common = { remote: src, remotePort: sport, externalPort: dport, origin: OUTSIDE, seen: now } as const
    const isThere = (seen: number, remotePort: number): boolean =>
      now - SWEEP_MS - seen <
      1000 * timeoutOf({ protocol, tcp: undefined, hasReply: false, origin: INSIDE, remotePort })
    const unseen = this.#unseen.filter(
      (each) =>
        each.protocol === protocol &&
        each.inside === to.inside &&
        each.insidePort === to.insidePort &&
        isThere(each.seen, each.remotePort),
    )
    if (unseen.some((each) => each.remote === src && each.remotePort === sport))
      return this.#add(protocol, { ...common, ...to, origin: INSIDE, isForwarded: false, wasExpected: false })
    const fault = openingFault(packet)
    if (fault) return fault
    if (!hasPorts(protocol)) return 'refused: nothing opens this protocol from outside'
    const forward = FORWARDED.find((at) => at.protocol === protocol && at.port === dport)
    if (forward) {
      const { toAddress: inside, toPort: insidePort } = forward
      return this.#add(protocol, { ...common, inside, insidePort, isForwarded: true, wasExpected: false })
    }
    const isExpected = this.expectations.some(
      (each) =>
        protocol === TCP &&
        each.server === src &&
        each.externalPort === dport &&
        now - each.since < EXPECTATION_MS + 1000 &&
        each.inside === to.inside &&
        each.insidePort === to.insidePort,
    )
    if (isExpected) return this.#add(protocol, { ...common, ...to, isForwarded: false, wasExpected: true })
    const isPermittedBy = (remote: number): boolean =>
      this.#filtering === 'endpoint-independent' || (this.#filtering === 'address-dependent' && remote === src)
    if (unseen.some(({ remote }) => isPermittedBy(remote)))
      return this.#add(protocol, { ...common, ...to, isForwarded: false, wasExpected: false })
    const isOfMapping = (each: Connection): boolean =>
      each.protocol === protocol && isMapped(each) && each.externalPort === dport
    const mapped = this.#findSwept(now, (each) => isOfMapping(each) && holds(each))
    if (!mapped) return 'refused: no mapping'
    const isPermitted = this.#findSwept(
      now,
      (each) =>
        isOfMapping(each) &&
        (this.#filtering === 'endpoint-independent' ||
          (hasSent(each) && (isPermittedBy(each.remote) || (each.remote === src && each.remotePort === sport)))),
    )
    if (!isPermitted) return 'refused: filtered'
    const { inside, insidePort } = mapped
    return this.#add(protocol, { ...common, inside, insidePort, isForwarded: false, wasExpected: false })
  }

  #add(protocol: number, made: Omit<Connection, 'protocol' | 'hasReply' | 'tcp' | 'isHelped'>): Connection {
    const isHelped = protocol === TCP && made.origin === INSIDE && made.remotePort === FTP
    const reopens = made.isForwarded || made.wasExpected
    const tcp =
      protocol === TCP && !isHelped
        ? new ReferenceTcp(made.origin === INSIDE ? 'inside' : 'outside', reopens)
        : undefined
    const connection: Connection = { ...made, protocol, isHelped, hasReply: false, tcp }
    // What was between the same ends before is over, or this would not have been opened.
    const { inside, insidePort, remote, remotePort } = made
    this.#all = this.#all.filter(
      (each) =>
        each.protocol !== protocol ||
        each.inside !== inside ||
        each.insidePort !== insidePort ||
        each.remote !== remote ||
        each.remotePort !== remotePort,
    )
    this.#all.push(connection)
    return connection
  }

  /** The inside end has taken part: else a mapping may end, and the connection with it. */
  holds = (connection: Connection): boolean => holds(connection)

  /** What there is, in words. */
  describe(now: number): string {
    return this.#all
      .filter((each) => this.#isAlive(each, now))
      .map(({ protocol, insidePort, externalPort, remotePort, tcp }) =>
        [protocol, insidePort, externalPort, remotePort, tcp?.state].join(' '),
      )
      .join('; ')
  }

  /** The packet, of this connection, has passed: the connection goes on, or why it must not have passed. */
  pass(connection: Connection, packet: Packet, side: Side, now: number): string | undefined {
    const { tcp } = connection
    const from = side === INSIDE ? 'inside' : 'outside'
    if (tcp && !packet.hasHeader) return tcp.extend(packet, from)
    const effect = tcp ? tcp.pass(packet, from) : 'tracked'
    if (effect === 'invalid') return `TCP: ${tcp?.fault}`
    if (effect === 'ended') this.end(connection)
    if (effect === 'reopened') Object.assign(connection, { origin: side, hasReply: false, seen: now })
    if (effect !== 'tracked') return undefined
    if (side !== connection.origin) connection.hasReply = true
    if (tcp || connection.origin === INSIDE || connection.hasReply) connection.seen = now
    return undefined
  }
}

type Timed = Pick<Connection, 'protocol' | 'tcp' | 'hasReply' | 'origin' | 'remotePort'>

function timeoutOf({ protocol, tcp, hasReply, origin, remotePort }: Timed): number {
  if (tcp?.state === 'SYN_RECV' && origin === OUTSIDE) return HALF_OPEN_FROM_OUTSIDE
  if (protocol === TCP) return tcp ? TIMEOUTS.tcp[tcp.state] : TIMEOUTS.tcp.ESTABLISHED
  if (protocol === UDP) return origin === INSIDE && remotePort === DNS ? TIMEOUTS.udpDns : TIMEOUTS.udpStream
  if (protocol === ICMP) return TIMEOUTS.icmp
  if (protocol === GRE) return hasReply ? TIMEOUTS.greStream : TIMEOUTS.greUnreplied
  return TIMEOUTS.generic
}

/** What must be right about a packet that opens a connection. */
function openingFault(packet: Packet): string | undefined {
  const { protocol } = packet
  if (!packet.hasHeader) return 'a later fragment opens nothing'
  if (!packet.isIntact) return 'a wrong checksum opens nothing'
  if (protocol === TCP) return packet.isSyn ? undefined : 'no SYN, and of no connection'
  if (protocol === ICMP) return packet.isQuery ? undefined : 'no query'
  return protocol === UDP || PORTLESS.includes(protocol) ? undefined : 'a protocol that is not translated'
}
