// The same as Script, through a gateway: real packets, the streams, the expectation table and the sequence edits of a
// shard. One gateway serves many connections, one after the other; what comes of each can be compared with what comes
// of it in a Script.

import type { Announced, Announcement, Direction, Helper, HelperContext } from '../../src/helpers/helper.ts'
import type { PortForward } from '../../src/nat/port-forward-rules.ts'
import { frame } from '../../src/testing/builder.ts'
import type { Edit, Expectation, Played } from '../../src/testing/helper-script.ts'
import { parseAddress } from '../../src/wire/address.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import * as tcp from '../../src/wire/tcp.ts'
import { EXTERNAL, HOST, MAC, SERVER } from '../datapath/network.ts'
import { decode, udp, viewOf } from '../datapath/packets.ts'

export type Inside = 'client' | 'server'

/** Somebody outside, as client of a server inside. */
const CALLER = '198.51.100.9'
/** Bytes of a segment, at most. */
export const LONGEST = 1400
/** Every port that is a client's: with preservation, a port announced is the port told. */
export const PORTS = [1024, 65535] as const
const FIRST_PORT = 61_000
const MOST_PORTS = 4000
/** Seconds after which a connection is gone, reset or of UDP, and what it has announced with it. */
const GONE = 305

/** What carries packets: a gateway with a LAN and an outside. */
export interface PacketGateway {
  /** A frame from the LAN, with its virtio-net header; what left by the outside port. */
  inside(frame: Uint8Array, virtio: Uint8Array): Uint8Array[]
  outside(frame: Uint8Array, virtio: Uint8Array): Uint8Array[]
  /** What else left. */
  toLan(): Uint8Array[]
  toWan(): Uint8Array[]
  pass(seconds: number): void
}

/** A gateway in which one helper reads, and what it does is noted. */
export class HelpedGateway<Carrier extends PacketGateway = PacketGateway> {
  readonly gateway: Carrier
  readonly inside: Inside
  readonly helper: Helper
  /** The connection in hand. */
  #current: GatewayScript | undefined
  #connections = 0

  /** `gateway` is to be told the helper by spied(), and a forward to the server if that is inside. */
  constructor(gateway: Carrier, helper: Helper, inside: Inside) {
    this.gateway = gateway
    this.helper = helper
    this.inside = inside
  }

  connect(): GatewayScript {
    this.#current = new GatewayScript(this, FIRST_PORT + (this.#connections++ % MOST_PORTS))
    this.#current.begin()
    return this.#current
  }

  /** The helper, seen at work. */
  spied(): Helper {
    const { helper } = this
    return {
      ...helper,
      help: (ctx) => helper.help(this.#noting(ctx)),
    }
  }

  #noting(ctx: HelperContext): HelperContext {
    const script = this.#current!
    const { direction, text } = ctx
    return {
      direction,
      text,
      info: ctx.info,
      hook: ctx.hook,
      established: ctx.established,
      tuple: ctx.tuple,
      translated: ctx.translated,
      state: ctx.state,
      ended: ctx.ended,
      lines: (couldBecome) => ctx.lines(couldBecome),
      hold: (at) => ctx.hold(at),
      done: () => ctx.done(),
      unexpect: (handle) => ctx.unexpect(handle),
      activate: (handle, active) => ctx.activate(handle, active),
      expect(announcement) {
        const announced = ctx.expect(announcement)
        if (announced) script.noteExpected(direction, announcement, announced)
        return announced
      },
      mangle(at, length, replacement) {
        const done = ctx.mangle(at, length, replacement)
        if (done) script.edits.push({ direction, was: text.slice(at, at + length), is: replacement })
        return done
      },
    }
  }
}

/** The forward that a server inside needs. */
export const forwardTo = (helper: Helper): PortForward => ({
  protocol: helper.tuple.proto === 'tcp' ? ipv4.PROTO_TCP : ipv4.PROTO_UDP,
  address: null,
  port: helper.tuple.dstPort!,
  toAddress: parseAddress(HOST),
  toPort: helper.tuple.dstPort!,
})

interface End {
  readonly address: string
  readonly port: number
  /** The other end, as this one sees it. */
  peer: { address: string; port: number }
  /** Sequence numbers: its first one, its next one, the next one of the other. */
  readonly first: number
  next: number
  peerNext: number
  sent: string
  received: string
  /** How much of what the end has sent was acknowledged; its SYN counts. */
  acknowledged: number
}

/** They wrap around in the middle of a session, one the sign and one the number. */
const FIRST_SEQ = { original: 0x7fffff00, reply: 0xffffff00 | 0 }
const UDP_HEADER = 8
const OTHER: Readonly<Record<Direction, Direction>> = { original: 'reply', reply: 'original' }

export class GatewayScript implements Played {
  readonly edits: Edit[] = []
  readonly everExpected: Expectation[] = []
  mostHeld = 0
  readonly clientPort: number
  readonly #of: HelpedGateway
  readonly #ends: Record<Direction, End>
  readonly #isTcp: boolean

  constructor(of: HelpedGateway, clientPort: number) {
    this.#of = of
    this.clientPort = clientPort
    this.#isTcp = of.helper.tuple.proto === 'tcp'
    const port = of.helper.tuple.dstPort!
    const isInside = of.inside === 'client'
    const peer = (address: string, at: number) => ({ address, port: at })
    const none = { sent: '', received: '', acknowledged: 0, peerNext: 0 }
    this.#ends = {
      original: {
        address: isInside ? HOST : CALLER,
        port: clientPort,
        peer: peer(isInside ? SERVER : EXTERNAL, port),
        first: FIRST_SEQ.original,
        next: FIRST_SEQ.original,
        ...none,
      },
      reply: {
        address: isInside ? SERVER : HOST,
        port,
        peer: peer(isInside ? EXTERNAL : CALLER, clientPort),
        first: FIRST_SEQ.reply,
        next: FIRST_SEQ.reply,
        ...none,
      },
    }
  }

  /** The handshake. */
  begin(): void {
    if (!this.#isTcp) return
    const options = Uint8Array.of(tcp.OPTION_MSS, 4, 5, 0xb4)
    this.#segment('original', 'S', '', options)
    this.#segment('reply', 'SA', '', options)
    this.#segment('original', 'A', '')
  }

  noteExpected(direction: Direction, { port, address, from, protocol }: Announcement, told: Announced): void {
    this.everExpected.push({
      from: from === 'anyone' ? 'anyone' : direction === 'original' ? 'server' : 'client',
      protocol: protocol ?? this.#of.helper.tuple.proto,
      to: `${address ?? this.ownAddress(direction)}:${port}`,
      told: `${told.address}:${told.port}`,
    })
  }

  ownAddress(direction: Direction): string {
    return this.#ends[direction].address
  }
  sent(direction: Direction): string {
    return this.#ends[direction].sent
  }
  received(direction: Direction): string {
    return this.#ends[OTHER[direction]].received
  }
  /** What was sent, and hasn't arrived, in the sender's words: its receiver has acknowledged all that has. */
  held(direction: Direction): string {
    const end = this.#ends[direction]
    return this.#isTcp ? end.sent.slice(end.acknowledged - 1) : ''
  }

  say(direction: Direction, bytes: string): string {
    const before = this.received(direction).length
    this.#ends[direction].sent += bytes
    if (this.#isTcp) this.#segment(direction, 'PA', bytes)
    else this.#datagram(direction, bytes)
    this.mostHeld = Math.max(this.mostHeld, this.held(direction).length)
    return this.received(direction).slice(before)
  }

  /** Both close, and then it is over: nothing is left of it in the gateway. */
  close(): void {
    if (this.#isTcp) {
      this.#segment('original', 'FA', '')
      this.#segment('reply', 'FA', '')
      this.#segment('original', 'RA', '')
    }
    this.#of.gateway.pass(GONE)
  }

  #isFromInside(direction: Direction): boolean {
    return (direction === 'original') === (this.#of.inside === 'client')
  }

  #datagram(direction: Direction, bytes: string): void {
    const { address, port, peer } = this.#ends[direction]
    const payload = Uint8Array.from(Buffer.from(bytes, 'latin1'))
    const packet = udp(`${address}:${port}`, `${peer.address}:${peer.port}`, { payload, eth: this.#macs(direction) })
    for (const each of this.#send(direction, frame(packet)))
      this.#ends[OTHER[direction]].received += textOf(decode(each).body.subarray(UDP_HEADER))
  }

  #segment(direction: Direction, flags: string, text: string, options?: Uint8Array): void {
    const end = this.#ends[direction]
    const bytes = frame({
      eth: this.#macs(direction),
      ip: { src: end.address, dst: end.peer.address, dontFragment: true },
      tcp: {
        sport: end.port,
        dport: end.peer.port,
        seq: end.next,
        ack: flags === 'S' ? 0 : end.peerNext,
        flags,
        ...(options && { options }),
      },
      payload: Uint8Array.from(Buffer.from(text, 'latin1')),
    })
    const counted = /[SF]/.test(flags) ? 1 : 0
    end.next = (end.next + text.length + counted) | 0
    const across = this.#send(direction, bytes)
    const { gateway } = this.#of
    const back = this.#isFromInside(direction) ? gateway.toLan() : gateway.toWan()
    if (flags === 'S') this.#ends.reply.peer.port = decode(across[0]!).sport
    // What the other direction held may have been let go.
    this.#take(OTHER[direction], across)
    this.#take(direction, back)
  }

  #macs(direction: Direction): { src: string; dst: string } {
    return this.#isFromInside(direction) ? { src: MAC.host, dst: MAC.lan } : { src: MAC.server, dst: MAC.wan }
  }

  /** The builder puts a virtio-net header before each frame. */
  #send(direction: Direction, bytes: Uint8Array): Uint8Array[] {
    const virtio = new Uint8Array(bytes.buffer, 0, 10)
    const { gateway } = this.#of
    return this.#isFromInside(direction) ? gateway.inside(bytes, virtio) : gateway.outside(bytes, virtio)
  }

  #take(direction: Direction, frames: readonly Uint8Array[]): void {
    const end = this.#ends[direction]
    let news = false
    for (const { seq, ack, flags, body, length } of frames.map(decode)) {
      if ((flags & tcp.RST) !== 0) continue
      const text = textOf(body.subarray(tcp.headerLen(viewOf(body), 0), length - ipv4.MIN_HEADER_LEN))
      if ((flags & tcp.SYN) !== 0) end.peerNext = seq | 0
      if (text !== '' && (seq | 0) !== end.peerNext) throw new Error(`bytes from ${seq} on, not from ${end.peerNext}`)
      end.received += text
      const counted = (flags & (tcp.SYN | tcp.FIN)) !== 0 ? 1 : 0
      end.peerNext = (end.peerNext + text.length + counted) | 0
      if ((flags & tcp.ACK) !== 0) end.acknowledged = Math.max(end.acknowledged, (ack - end.first) | 0)
      news ||= text !== ''
    }
    if (news) this.#segment(direction, 'A', '')
  }
}

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
