// A NAT for reference, written for reading: it is shown every packet that arrives at natloom and all that leaves, and
// says whether what has left may have left, and as what. What natloom has dropped it doesn't ask about, and takes as
// not having been: a NAT may refuse more than it must. It knows one address outside, inside hosts, forwards and
// timeouts (test/fuzz/settings.ts); its parts are packets (reference-packet.ts), TCP (reference-tcp.ts), connections
// and mappings (reference-connections.ts), fragments (packet/reassembly.ts).

import type { Dependence } from '../../src/nat/settings.ts'
import { TIMEOUTS } from '../fuzz/settings.ts'
import { Reassembly } from './packet/reassembly.ts'
import {
  type Connection,
  EXTERNAL,
  GATEWAY,
  INSIDE,
  isSender,
  OUTSIDE,
  ReferenceConnections,
  SILENT,
  type Side,
} from './reference-connections.ts'
import {
  type Ends,
  hasTransportHeader,
  ICMP,
  IP,
  internetChecksum,
  isSamePacket,
  long,
  Packet,
  readPacket,
  TCP,
  translated,
  UDP,
  word,
} from './reference-packet.ts'

/** Of a packet that it sends an error about, a gateway quotes at least so much. */
const QUOTED = 28
const REDIRECT = 5
const RST = 4

/** Fragments of one name: those that have arrived, and what became of them once a first one has passed. */
interface Datagram {
  readonly first: Packet
  readonly side: Side
  readonly arrived: Packet[]
  passed: (Passed & { readonly id: number; readonly at: number }) | undefined
  reassembly: Reassembly
}

/** As what a packet has left, and the connections that it is of: of a hairpin two. */
interface Passed {
  readonly ends: Ends
  readonly through: readonly (readonly [connection: Connection, from: Side])[]
}

interface Arrival {
  readonly frame: Uint8Array
  readonly side: Side
}

export class ReferenceNat {
  readonly #connections: ReferenceConnections
  readonly #arrivals: Arrival[] = []
  readonly #datagrams: Datagram[] = []
  /** What inside hosts have said to servers that a helper listens to, and what of it came to them. */
  #said = ''
  #heard = ''

  constructor(filtering: Dependence) {
    this.#connections = new ReferenceConnections(filtering)
  }

  /** A frame has come by a side, and these have left; what is wrong with them, or undefined. */
  arrived(now: number, side: Side, frame: Uint8Array, toLan: readonly Uint8Array[], toWan: readonly Uint8Array[]) {
    this.#arrivals.push({ frame, side })
    const packet = readPacket(frame)
    if (packet instanceof Packet) this.#note(packet, side)
    // What waits for its neighbour, or comes to nobody by an address of ours, has left its connection nevertheless.
    const mayBeUnseen = packet instanceof Packet && (packet.dst === SILENT || packet.dst === EXTERNAL)
    if (mayBeUnseen && side === INSIDE) this.#connections.noteUnseen(packet, now)
    const fault = this.#judge(now, packet, side, toLan, toWan)
    if (packet instanceof Packet) this.#connections.keepHelped(packet, side, now)
    return fault
  }

  /** Time has passed, and these have left. */
  left(now: number, toLan: readonly Uint8Array[], toWan: readonly Uint8Array[]): string | undefined {
    return this.#judge(now, 'nothing arrived', INSIDE, toLan, toWan)
  }

  /** The connections that there are, in words. */
  describe = (now: number): string => this.#connections.describe(now)

  #judge(
    now: number,
    packet: Packet | string,
    from: Side,
    toLan: readonly Uint8Array[],
    toWan: readonly Uint8Array[],
  ): string | undefined {
    for (const [side, frames] of [[OUTSIDE, toWan] as const, [INSIDE, toLan] as const])
      for (const frame of frames) {
        const sent = readPacket(frame)
        if (typeof sent === 'string') return `sent malformed: ${sent}`
        if (sent.frame.length !== frame.length) return 'sent with bytes behind it'
        const fault = this.#faultOf(sent, side, packet, from, now)
        if (fault) return `${side === INSIDE ? 'to the LAN' : 'to the outside'}: ${fault}`
      }
    return undefined
  }

  #faultOf(sent: Packet, to: Side, packet: Packet | string, from: Side, now: number): string | undefined {
    if (sent.embedded > 0) {
      const ownFault = this.#ownErrorFault(sent, to)
      const isCarried = ownFault !== undefined && packet instanceof Packet && packet.embedded > 0
      return isCarried ? this.#errorFault(packet, from, sent, to, now) : ownFault
    }
    const helped = this.#helpedOf(sent, to, sent.isSyn ? now : 0)
    if (helped) {
      if (to === OUTSIDE) this.#overhear(helped, sent, now)
      return packet instanceof Packet && from !== to ? this.#passHelped(helped, sent, packet, from, now) : undefined
    }
    if (sent.protocol === TCP && sent.isReset && this.#isOwnReset(sent, to)) return undefined
    if (typeof packet === 'string') return packet
    if (sent.isFragment) return this.#fragmentFault(sent, to, packet, from, now)
    return this.#forwardFault(packet, from, sent, to, now)
  }

  // --- packets of flows ---

  /** The packet that has arrived leaves as `sent`. */
  #forwardFault(packet: Packet, from: Side, sent: Packet, to: Side, now: number): string | undefined {
    const ends = this.#pass(packet, from, sent, to, now)
    if (typeof ends === 'string') return ends
    if (packet.ttl <= 1) return 'its time to live was over'
    const id = packet.isFragment ? sent.id : packet.id
    return isSamePacket(packet, translated(packet, ends.ends, id), sent.frame) ? undefined : 'translated wrongly'
  }

  #pass(packet: Packet, from: Side, sent: Packet, to: Side, now: number) {
    if (from === OUTSIDE) return to === INSIDE ? this.#passIn(packet, sent, false, now) : 'back to the outside'
    if (to === OUTSIDE) return this.#passOut(packet, sent.sport, now)
    // A hairpin is two connections: it leaves as one, and comes back as another.
    if (packet.dst !== EXTERNAL) return 'from the LAN to the LAN'
    const out = this.#passOut(packet, sent.sport, now)
    if (typeof out === 'string') return out
    const back = new Packet(translated(packet, out.ends, packet.id))
    back.sport = out.ends.sport
    back.dport = out.ends.dport
    const into = this.#passIn(back, sent, true, now)
    return typeof into === 'string' ? into : { ends: into.ends, through: [...out.through, ...into.through] }
  }

  #passOut(packet: Packet, externalPort: number, now: number): Passed | string {
    const { protocol, dst, dport } = packet
    // An answer keeps its query's identifier, which is where a remote port would be.
    let connection = this.#connections.fromInside(packet, now)
    const isAnswer = protocol === ICMP && !packet.isQuery
    if (isAnswer) return 'an answer from inside: nobody outside can have asked'
    if (connection && connection.externalPort !== externalPort && this.#mayBeAnother(connection, packet)) {
      this.#connections.end(connection)
      connection = undefined
    }
    if (!connection) {
      const opened = this.#connections.openFromInside(packet, externalPort, now)
      if (typeof opened === 'string') return opened
      connection = opened
    }
    if (connection.externalPort !== externalPort)
      return `from external port ${externalPort}, its connection has ${connection.externalPort}`
    const fault = this.#connections.pass(connection, packet, INSIDE, now)
    if (fault) return fault
    return { ends: { src: EXTERNAL, sport: externalPort, dst, dport }, through: [[connection, INSIDE]] }
  }

  /** The connection may have ended, and the packet have opened another one. */
  #mayBeAnother(connection: Connection, packet: Packet): boolean {
    const { isHelped, tcp } = connection
    const isOver = isHelped || tcp?.state === 'TIME_WAIT' || tcp?.state === 'CLOSE'
    return (isOver && packet.isSyn) || !this.#connections.holds(connection)
  }

  #passIn(packet: Packet, sent: Packet, fromUs: boolean, now: number): Passed | string {
    const { src, sport, dst } = packet
    if (dst !== EXTERNAL) return 'to an address that is not ours'
    let connection = this.#connections.fromOutside(packet, now)
    if (!connection) {
      const opened = this.#connections.openFromOutside(
        packet,
        { inside: sent.dst, insidePort: sent.dport },
        fromUs,
        now,
      )
      if (typeof opened === 'string') return opened
      connection = opened
    }
    const { inside, insidePort } = connection
    if (sent.dst !== inside || (sent.hasHeader && sent.dport !== insidePort)) return 'to another inside endpoint'
    const fault = this.#connections.pass(connection, packet, OUTSIDE, now)
    if (fault) return fault
    return { ends: { src, sport, dst: inside, dport: insidePort }, through: [[connection, OUTSIDE]] }
  }

  // --- fragments ---

  /** A fragment that has arrived is noted under its datagram's name. */
  #note(packet: Packet, side: Side): void {
    if (!packet.isFragment) return
    const datagram = this.#datagramOf(packet, side)
    if (datagram) datagram.arrived.push(packet)
    else
      this.#datagrams.push({ first: packet, side, arrived: [packet], passed: undefined, reassembly: new Reassembly() })
  }

  /** A fragment leaves: the one that has just arrived, or one that has waited for it, the first of its datagram. */
  #fragmentFault(sent: Packet, to: Side, packet: Packet, from: Side, now: number): string | undefined {
    const datagram = this.#datagramOf(packet, from)
    if (!datagram) return 'a fragment of nobody'
    if (sent.offset === 0) return this.#firstFragmentFault(datagram, packet, sent, to, now)
    return this.#laterFragmentFault(datagram, sent, now)
  }

  #datagramOf(packet: Packet, side: Side): Datagram | undefined {
    return this.#datagrams.find((each) => each.side === side && isSameName(each.first, packet))
  }

  #firstFragmentFault(datagram: Datagram, found: Packet, sent: Packet, to: Side, now: number): string | undefined {
    const before = datagram.passed
    if (before?.id === sent.id && !datagram.reassembly.body) return 'a first fragment twice'
    const passed = this.#pass(found, datagram.side, sent, to, now)
    if (typeof passed === 'string') return passed
    if (found.ttl <= 1) return 'its time to live was over'
    if (!isSamePacket(found, translated(found, passed.ends, sent.id), sent.frame)) return 'translated wrongly'
    const isShared = this.#datagrams.some(
      ({ passed: other, first, reassembly }) =>
        other !== undefined &&
        first !== datagram.first &&
        other.id === sent.id &&
        other.ends.src === sent.src &&
        other.ends.dst === sent.dst &&
        first.protocol === sent.protocol &&
        !reassembly.body,
    )
    if (isShared) return `the identification ${sent.id} of another datagram under way`
    datagram.passed = { ...passed, id: sent.id, at: now }
    datagram.reassembly = new Reassembly()
    return this.#addPiece(datagram, found)
  }

  #laterFragmentFault(datagram: Datagram, sent: Packet, now: number): string | undefined {
    const { passed, arrived } = datagram
    if (!passed) return 'a later fragment whose first has not passed'
    if (now - passed.at > (TIMEOUTS.fragment + 2) * 1000) return 'a later fragment that is too late'
    if (sent.id !== passed.id) return `identification ${sent.id}, the first fragment had ${passed.id}`
    const isIt = (each: Packet): boolean => isSamePacket(each, translated(each, passed.ends, passed.id), sent.frame)
    const found = arrived.find((each) => each.ttl > 1 && isIt(each))
    if (!found) return 'a later fragment that nobody has sent'
    for (const [{ protocol, inside, insidePort, remote, remotePort }, side] of passed.through) {
      const tuple = { protocol, src: inside, sport: insidePort, dst: remote, dport: remotePort }
      // The one that its first fragment belonged to, or the one that has taken its place.
      const connection = this.#connections.fromInside(tuple, now)
      if (!connection) return 'a later fragment of a connection that is over'
      this.#connections.pass(connection, found, side, now)
    }
    return this.#addPiece(datagram, found)
  }

  #addPiece({ reassembly }: Datagram, { offset, more, frame, l4 }: Packet): string | undefined {
    const added = reassembly.add({ offset, moreFragments: more, body: frame.subarray(l4) })
    return added === 'new' ? undefined : `a fragment whose bytes the receiver has (${added})`
  }

  // --- ICMP errors ---

  /** An ICMP error that has arrived goes on to the sender of the packet that it quotes. */
  #errorFault(packet: Packet, from: Side, sent: Packet, to: Side, now: number): string | undefined {
    const { frame, embedded: at } = packet
    if (frame[packet.l4] === REDIRECT) return 'a redirect'
    const quoted = quotedIn(packet)
    if (typeof quoted === 'string') return quoted
    if (!isSender(packet.src, from)) return 'an error by a martian source'
    if (packet.dst !== quoted.src) return 'an error to another than the quoted sender'
    const { protocol, src, sport, dst, dport } = quoted
    if (packet.ttl <= 1) return 'its time to live was over'
    if (from === to) return this.#hairpinErrorFault(packet, sent, now)
    const answer = { protocol, src: dst, sport: dport, dst: src, dport: sport }
    const connection =
      from === OUTSIDE ? this.#connections.fromOutside(answer, now) : this.#connections.fromInside(answer, now)
    if (!connection) return 'an error about no connection'
    if (from === OUTSIDE && src !== EXTERNAL) return 'an error about another address'
    const quotedSender = from === OUTSIDE ? 'inside' : 'outside'
    if (connection.tcp && !connection.tcp.mayQuote(long(frame, quoted.l4 + 4), quotedSender))
      return 'an error about a number that is not under way'
    const { inside, insidePort, remote, remotePort, externalPort } = connection
    const back =
      from === OUTSIDE
        ? { src: inside, sport: insidePort, dst: remote, dport: remotePort }
        : { src: remote, sport: remotePort, dst: EXTERNAL, dport: externalPort }
    const outer = from === OUTSIDE ? { src: packet.src, dst: inside } : { src: EXTERNAL, dst: remote }
    if (sent.src !== outer.src || sent.dst !== outer.dst) return 'an error with wrong addresses'
    if (sent.ttl !== packet.ttl - 1 || sent.frame.length !== frame.length) return 'an error changed'
    const turned = quotedIn(sent)
    if (typeof turned === 'string') return `turned back: ${turned}`
    if (turned.src !== back.src || turned.dst !== back.dst) return 'quoted addresses not turned back'
    if (turned.sport !== back.sport || turned.dport !== back.dport) return 'quoted ports not turned back'
    return sent.frame[sent.l4] === frame[packet.l4] && at === sent.embedded ? undefined : 'an error changed'
  }

  /** About a hairpin's second half: it is turned back twice. */
  #hairpinErrorFault(packet: Packet, sent: Packet, now: number): string | undefined {
    const quoted = quotedIn(packet)
    if (typeof quoted === 'string' || quoted.src !== EXTERNAL) return 'an error from the LAN to the LAN'
    const { protocol, src, sport, dst, dport } = quoted
    const second = this.#connections.fromInside({ protocol, src: dst, sport: dport, dst: src, dport: sport }, now)
    const back = second && { protocol, src: EXTERNAL, sport: second.externalPort, dport: sport }
    const first = back && this.#connections.fromOutside(back, now)
    if (!first) return 'an error about no hairpin'
    return sent.dst === first.inside ? undefined : 'an error to another than the hairpin came from'
  }

  /** The gateway's own error quotes what has come from there. */
  #ownErrorFault(sent: Packet, to: Side): string | undefined {
    const isOurs = sent.src === EXTERNAL || sent.src === GATEWAY
    if (!isOurs) return 'an error that nobody has sent'
    const quotes = ({ frame, side }: Arrival): boolean => {
      if (side !== to || frame.length < IP + QUOTED || long(frame, IP + 12) !== sent.dst) return false
      const end = Math.min(QUOTED, sent.frame.length - sent.embedded)
      for (let i = 0; i < end; i++) if (frame[IP + i] !== sent.frame[sent.embedded + i]) return false
      return true
    }
    return this.#arrivals.some(quotes) ? undefined : 'an error of our own about nothing that came from there'
  }

  /** A segment of no connection was answered as its addressee would. */
  #isOwnReset({ src, sport, dst, dport, frame, l4 }: Packet, to: Side): boolean {
    const { frame: last, side } = this.#arrivals.at(-1)!
    const packet = readPacket(last)
    if (!(packet instanceof Packet) || packet.protocol !== TCP || side !== to || side !== INSIDE) return false
    const isAnswer = packet.src === dst && packet.sport === dport && packet.dst === src && packet.dport === sport
    return isAnswer && long(frame, l4 + 4) === long(packet.frame, packet.l4 + 8)
  }

  // --- connections that a helper reads: their bytes may be changed, kept and cut anew, but not go elsewhere ---

  #helpedOf({ protocol, isFragment, src, sport, dst, dport }: Packet, to: Side, at: number) {
    if (protocol !== TCP || isFragment || (to === OUTSIDE && src !== EXTERNAL)) return undefined
    return to === OUTSIDE
      ? this.#connections.helped(at, dst, dport, (each) => each.externalPort === sport)
      : this.#connections.helped(at, src, sport, (each) => each.inside === dst && each.insidePort === dport)
  }

  #passHelped(connection: Connection, sent: Packet, packet: Packet, from: Side, now: number): string | undefined {
    const { inside, remote } = connection
    const isIts = packet.protocol === TCP && packet.src === (from === INSIDE ? inside : remote)
    if (!isIts) return undefined
    this.#connections.pass(connection, packet, from, now)
    // A reset of the gateway's own, which ends a connection that can't be helped any more.
    if ((sent.flags & ~packet.flags & RST) !== 0) return undefined
    return packet.ttl > 1 && sent.ttl > packet.ttl ? 'a time to live that has grown' : undefined
  }

  /** What has been announced in the gateway's words is expected. */
  #overhear({ remote, inside }: Connection, sent: Packet, now: number): void {
    this.#heard += textOf(sent)
    this.#said = this.#arrivals.map(({ frame }) => latin1(frame)).join('')
    const ports = [...this.#said.matchAll(/PORT 10,0,0,\d+,(\d+),(\d+)/g)].map(([, high, low]) => portOf(high!, low!))
    for (const [, high, low] of this.#heard.matchAll(/PORT 203,0,113,1,(\d+),(\d+)/g))
      for (const insidePort of ports)
        this.#connections.expectations.push({
          ...{ server: remote, externalPort: portOf(high!, low!), inside, insidePort, since: now },
        })
  }
}

const portOf = (high: string, low: string): number => Number(high) * 256 + Number(low)
const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
const textOf = ({ frame, l4 }: Packet): string => latin1(frame.subarray(l4 + (frame[l4 + 12]! >> 4) * 4))

const isSameName = (a: Packet, b: Packet): boolean =>
  a.src === b.src && a.dst === b.dst && a.protocol === b.protocol && a.id === b.id

/** What an ICMP error quotes; or why it quotes nothing. */
function quotedIn({ frame, embedded: at }: Packet) {
  const l4 = at + (frame[at]! & 15) * 4
  if (frame.length < at + 20 || frame[at]! >> 4 !== 4 || l4 < at + 20 || frame.length < l4) return 'quotes too little'
  // Of other protocols nothing is read behind the IPv4 header, and their packets may be shorter.
  if (hasTransportHeader(frame[at + 9]!) && frame.length < l4 + 8) return 'quotes too little'
  if (internetChecksum(frame, at, l4) !== 0) return 'quotes a header with a wrong checksum'
  if ((word(frame, at + 6) & 0x1fff) !== 0) return 'quotes a later fragment'
  const protocol = frame[at + 9]!
  const common = { protocol, src: long(frame, at + 12), dst: long(frame, at + 16), l4 }
  if (protocol === TCP || protocol === UDP) return { ...common, sport: word(frame, l4), dport: word(frame, l4 + 2) }
  if (protocol !== ICMP) return { ...common, sport: 0, dport: 0 }
  const identifier = word(frame, l4 + 4)
  const type = frame[l4]!
  if ([8, 13, 15, 17].includes(type)) return { ...common, sport: identifier, dport: type }
  const queried = { 0: 8, 14: 13, 16: 15, 18: 17 }[type]
  return queried === undefined ? 'quotes no query' : { ...common, sport: queried, dport: identifier }
}
