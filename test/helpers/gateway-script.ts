// The same as Script, through a gateway: real packets, the streams, the expectation table and the sequence edits of a
// shard. One gateway serves many connections, one after the other; what comes of each can be compared with what comes of
// it in a Script.

import { expect } from 'vitest'
import type { Announced, Announcement, Direction, Helper, HelperContext } from '../../src/helpers/helper.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { frame } from '../../src/wire/builder.ts'
import * as tcp from '../../src/wire/tcp.ts'
import { type Segment, segmentOf } from '../datapath/dialogue.ts'
import { Gateway } from '../datapath/gateway.ts'
import { EXTERNAL, HOST, MAC, SERVER } from '../datapath/network.ts'
import { decode, udp } from '../datapath/packets.ts'
import type { Edit, Expectation, Played } from './script.ts'

export type Inside = 'client' | 'server'

/** Somebody outside, as client of a server inside. */
export const CALLER = '198.51.100.9'
/** Bytes of a segment, at most. */
export const LONGEST = 1400
/** Every port that is a client's: with preservation, a port announced is the port told. */
const PORTS = [1024, 65535] as const
const FIRST_PORT = 61_000
const MOST_PORTS = 4000
/** Seconds after which a connection is gone, reset or of UDP, and what it has announced with it. */
const GONE = 305

export class HelpedGateway {
  readonly gateway: Gateway
  readonly inside: Inside
  readonly helper: Helper
  /** The connection in hand: who is told what the helper does. */
  current: GatewayScript | undefined
  #connections = 0

  static async start(helper: Helper, inside: Inside = 'client'): Promise<HelpedGateway> {
    const port = helper.tuple.dstPort!
    const protocol = helper.tuple.proto === 'tcp' ? 6 : 17
    const toServer = { protocol, address: null, port, toAddress: parseAddress(HOST), toPort: port }
    const gateway = await Gateway.start({
      ports: PORTS,
      nat: { preservePorts: true, parity: false },
      forwards: inside === 'server' ? [toServer] : [],
    })
    const helped = new HelpedGateway(gateway, helper, inside)
    await gateway.help(helped.#spied())
    return helped
  }

  private constructor(gateway: Gateway, helper: Helper, inside: Inside) {
    this.gateway = gateway
    this.helper = helper
    this.inside = inside
  }

  connect(): GatewayScript {
    const port = FIRST_PORT + (this.#connections++ % MOST_PORTS)
    this.current = new GatewayScript(this, port)
    return this.current
  }

  /** The helper, and what it does is noted. */
  #spied(): Helper {
    const { helper } = this
    return {
      ...helper,
      help: (ctx) => {
        const calls = this.current!
        const { direction, text } = ctx
        const spied: HelperContext = {
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
            if (announced) calls.noteExpected(direction, announcement, announced)
            return announced
          },
          mangle(at, length, replacement) {
            const done = ctx.mangle(at, length, replacement)
            if (done) calls.edits.push({ direction, was: text.slice(at, at + length), is: replacement })
            return done
          },
        }
        return helper.help(spied)
      },
    }
  }
}

interface End {
  readonly address: string
  readonly port: number
  /** The other end, as this one sees it. */
  peer: { address: string; port: number }
  next: number
  peerNext: number
  sent: string
  received: string
  /** Of what it has sent, what was acknowledged; its SYN counts. */
  acknowledged: number
}

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
        next: 0x7fffff00,
        ...none,
      },
      reply: {
        address: isInside ? SERVER : HOST,
        port,
        peer: peer(isInside ? EXTERNAL : CALLER, clientPort),
        next: 0xffffff00 | 0,
        ...none,
      },
    }
    if (this.#isTcp) this.#shakeHands()
  }

  #shakeHands(): void {
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
    return this.#isTcp ? end.sent.slice(Math.max(end.acknowledged - 1, 0)) : ''
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
    const packet = udp(`${address}:${port}`, `${peer.address}:${peer.port}`, { payload })
    const { gateway } = this.#of
    const gone = this.#isFromInside(direction) ? gateway.inside(packet) : gateway.outside(packet)
    for (const bytes of gone)
      this.#ends[OTHER[direction]].received += Buffer.from(bytes.subarray(42)).toString('latin1')
  }

  #segment(direction: Direction, flags: string, text: string, options?: Uint8Array): void {
    const end = this.#ends[direction]
    const bytes = frame({
      eth: this.#isFromInside(direction) ? { src: MAC.host, dst: MAC.lan } : { src: MAC.server, dst: MAC.wan },
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
    const virtio = new Uint8Array(bytes.buffer, 0, 10)
    const { gateway } = this.#of
    const isFromInside = this.#isFromInside(direction)
    const across = isFromInside ? gateway.inside(bytes, virtio) : gateway.outside(bytes, virtio)
    const back = isFromInside ? gateway.toLan() : gateway.toWan()
    if (flags === 'S') this.#ends.reply.peer.port = decode(across[0]!).sport
    // What the other direction held may have been let go.
    this.#take(OTHER[direction], across.map(segmentOf))
    this.#take(direction, back.map(segmentOf))
  }

  #take(direction: Direction, segments: readonly Segment[]): void {
    const end = this.#ends[direction]
    let news = false
    for (const { seq, ack, flags, text } of segments) {
      if ((flags & tcp.RST) !== 0) continue
      if ((flags & tcp.SYN) !== 0) end.peerNext = seq
      if (text.length > 0) expect(seq | 0).toBe(end.peerNext)
      end.received += text
      const counted = (flags & (tcp.SYN | tcp.FIN)) !== 0 ? 1 : 0
      end.peerNext = (end.peerNext + text.length + counted) | 0
      if ((flags & tcp.ACK) !== 0) end.acknowledged = Math.max(end.acknowledged, this.#acknowledged(direction, ack))
      news ||= text.length > 0
    }
    if (news) this.#segment(direction, 'A', '')
  }

  #acknowledged(direction: Direction, ack: number): number {
    const end = this.#ends[direction]
    const first = direction === 'original' ? 0x7fffff00 : 0xffffff00 | 0
    return Math.min((ack - first) | 0, end.sent.length + 1)
  }
}
