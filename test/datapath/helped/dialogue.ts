// Two ends of a TCP connection through a gateway, as a test moves them: each has a text to send, sends any part of it
// at any time, and puts together what arrives by its sequence numbers. What arrives twice must be the same both times.

import { frame } from '../../../src/testing/builder.ts'
import * as ethernet from '../../../src/wire/ethernet.ts'
import * as ipv4 from '../../../src/wire/ipv4.ts'
import * as tcp from '../../../src/wire/tcp.ts'
import { Gateway, type GatewayOptions } from '../gateway.ts'
import { EXTERNAL, HOST, MAC, SERVER } from '../network.ts'
import { fromOf } from '../packets.ts'

export interface Segment {
  readonly seq: number
  readonly ack: number
  readonly flags: number
  readonly text: string
  readonly sack: readonly (readonly [number, number])[]
  readonly bytes: Uint8Array
}

export function segmentOf(bytes: Uint8Array): Segment {
  const mem = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const ip = ethernet.HEADER_LEN
  const at = ip + ipv4.headerLen(mem, ip)
  const payload = at + tcp.headerLen(mem, at)
  const end = ip + ipv4.totalLength(mem, ip)
  const option = tcp.findOption(mem, at, tcp.OPTION_SACK)
  const blocks = option === 0 ? 0 : tcp.sackBlocks(mem, option)
  return {
    seq: tcp.seq(mem, at),
    ack: tcp.ack(mem, at),
    flags: tcp.flags(mem, at),
    text: Buffer.from(bytes.subarray(payload, end)).toString('latin1'),
    sack: Array.from({ length: blocks }, (_, i) => {
      const block = tcp.sackBlock(option, i)
      return [tcp.sackLeft(mem, block), tcp.sackRight(mem, block)]
    }),
    bytes,
  }
}

/** Opens by hairpin. */
export const INSIDE_CLIENT = '10.0.0.6'

function sourceOf(bytes: Uint8Array): { address: string; port: number } {
  const [address, port] = fromOf(bytes).split(':')
  return { address: address!, port: Number(port) }
}

export interface SendOptions {
  readonly fin?: boolean
  /** Other bytes than the sender's own. */
  readonly text?: string
  readonly sack?: readonly (readonly [number, number])[]
  readonly gso?: number
  readonly flags?: string
}

export class End {
  /** All that it means to send, and its first sequence number. */
  text = ''
  readonly isn: number
  /** The other end's first number, and what of its text has arrived: undefined where nothing has. */
  peerIsn = 0
  readonly arrived: (string | undefined)[] = []
  /** Of those, what it has said it has. */
  hasAcknowledged = 0
  /** Bytes that came twice before that, and differently. */
  readonly contradictions: string[] = []
  /** Of its own text what the other end has acknowledged; its FIN counts. */
  acknowledged = 0
  peerHasEnded = false
  peerEndsAt = -1

  constructor(isn: number) {
    this.isn = isn | 0
  }

  /** What has arrived without a gap. */
  get received(): string {
    const gap = this.arrived.indexOf(undefined)
    return this.arrived.slice(0, gap < 0 ? undefined : gap).join('')
  }

  take(segment: Segment): void {
    if ((segment.flags & tcp.SYN) !== 0) this.peerIsn = segment.seq
    else {
      const first = (segment.seq - this.peerIsn - 1) | 0
      for (const [i, character] of [...segment.text].entries()) {
        const at = first + i
        // What it has acknowledged it has delivered: a receiver looks at such bytes no more.
        if (at < this.hasAcknowledged) continue
        while (this.arrived.length <= at) this.arrived.push(undefined)
        const known = this.arrived[at]
        if (known === undefined) this.arrived[at] = character
        else if (known !== character) this.contradictions.push(`byte ${at}: ${known}, then ${character}`)
      }
      if ((segment.flags & tcp.FIN) !== 0) this.peerEndsAt = first + segment.text.length
      this.peerHasEnded = this.peerEndsAt >= 0 && this.received.length >= this.peerEndsAt
    }
    if ((segment.flags & tcp.ACK) !== 0) {
      const has = (segment.ack - this.isn - 1) | 0
      if (has > this.acknowledged) this.acknowledged = has
    }
  }

  /** What it acknowledges now. */
  get ack(): number {
    return (this.peerIsn + 1 + this.received.length + (this.peerHasEnded ? 1 : 0)) | 0
  }
}

/** What packets go through: a gateway of one shard, or a cluster. */
export interface Box {
  inside(bytes: Uint8Array, virtio?: Uint8Array): Uint8Array[]
  outside(bytes: Uint8Array, virtio?: Uint8Array): Uint8Array[]
  /** From inside to inside. */
  hairpin?(bytes: Uint8Array, virtio?: Uint8Array): Uint8Array[]
}

export interface DialogueOptions extends GatewayOptions {
  /**
   * Who opens: an inside host to SERVER (default); SERVER, or another inside host, to this port of the external
   * address, forwarded to the same one of HOST.
   */
  readonly way?: 'out' | 'in' | 'hairpin'
  /** The inside host that is not reached by hairpin; HOST by default. */
  readonly insideHost?: string
  readonly clientPort?: number
  readonly clientIsn?: number
  readonly serverIsn?: number
  readonly serverPort?: number
  readonly mss?: number
  /** False: the test shakes hands itself, by open(), answer() and acknowledge(). */
  readonly handshake?: boolean
}

const mssOption = (mss: number): Uint8Array => Uint8Array.of(tcp.OPTION_MSS, 4, mss >> 8, mss & 255)

/** An inside and an outside host, one the client and one the server; the handshake is done. */
export class Dialogue<B extends Box = Gateway> {
  readonly gateway: B
  client: End
  server: End
  readonly serverPort: number
  readonly clientPort: number
  readonly #way: 'out' | 'in' | 'hairpin'
  /** Each end as the other one sees it. */
  #seenClient = { address: '', port: 0 }
  readonly #seenServer: { address: string; port: number }
  readonly #synOptions: Uint8Array
  readonly #insideHost: string

  static async begin(options: DialogueOptions = {}, prepare: (gateway: Gateway) => Promise<unknown> = async () => {}) {
    const gateway = await Gateway.start(options)
    await prepare(gateway)
    return new Dialogue(gateway, options)
  }

  constructor(gateway: B, options: DialogueOptions) {
    const { clientIsn = 1000, serverIsn = 5000, serverPort = 21, clientPort = 5000, way = 'out' } = options
    this.gateway = gateway
    this.client = new End(clientIsn)
    this.server = new End(serverIsn)
    this.serverPort = serverPort
    this.clientPort = clientPort
    this.#way = way
    this.#seenServer = { address: way === 'out' ? SERVER : EXTERNAL, port: serverPort }
    this.#insideHost = options.insideHost ?? HOST
    this.#synOptions = mssOption(options.mss ?? 1460)
    if (options.handshake === false) return
    this.open()
    for (const segment of this.answer()) this.client.take(segment)
    this.say(this.client, 0, 0)
  }

  /** The client's SYN. */
  open(): void {
    const { client, server } = this
    const options = this.#synOptions
    const [syn] = this.#through(client, this.#frame(client, { seq: client.isn, ack: 0, flags: 'S', options }, ''))
    this.#seenClient = sourceOf(syn!)
    server.take(segmentOf(syn!))
  }

  /** Both ends have forgotten the connection, and are about to open another one by the same ports. */
  forget(clientIsn: number, serverIsn: number): void {
    this.client = new End(clientIsn)
    this.server = new End(serverIsn)
  }

  /** Who sends from outside, and to which endpoint of the gateway's: the client or the server, as `way` says. */
  get outside(): { readonly from: string; readonly to: string } {
    if (this.#way === 'in') return { from: `${SERVER}:${this.clientPort}`, to: `${EXTERNAL}:${this.serverPort}` }
    return { from: `${SERVER}:${this.serverPort}`, to: `${this.#seenClient.address}:${this.#seenClient.port}` }
  }

  /** The server's SYN/ACK, once more. */
  answer(isn = this.server.isn): Segment[] {
    const { server } = this
    const answer = { seq: isn, ack: (server.peerIsn + 1) | 0, flags: 'SA', options: this.#synOptions }
    return this.#through(server, this.#frame(server, answer, '')).map(segmentOf)
  }

  #isInside(end: End): boolean {
    return this.#way === 'hairpin' || (end === this.client) === (this.#way === 'out')
  }

  #through(end: End, bytes: Uint8Array): Uint8Array[] {
    // The builder puts it before the frame.
    const virtio = new Uint8Array(bytes.buffer, 0, 10)
    if (this.#way === 'hairpin') return this.gateway.hairpin!(bytes, virtio)
    return this.#isInside(end) ? this.gateway.inside(bytes, virtio) : this.gateway.outside(bytes, virtio)
  }

  #addressOf(end: End): string {
    if (!this.#isInside(end)) return SERVER
    return this.#way === 'hairpin' && end === this.client ? INSIDE_CLIENT : this.#insideHost
  }

  other(end: End): End {
    return end === this.client ? this.server : this.client
  }

  /** Sends [from, to) of an end's text; what left the gateway, not yet taken by the other end. */
  send(end: End, from: number, to: number, options: SendOptions = {}): Segment[] {
    const text = options.text ?? end.text.slice(from, to)
    const flags = `${options.flags ?? 'A'}${options.fin ? 'F' : ''}${text === '' ? '' : 'P'}`
    end.hasAcknowledged = end.received.length
    const sack = options.sack?.length ? { options: sackOption(options.sack) } : {}
    const segment = { seq: (end.isn + 1 + from) | 0, ack: end.ack, flags, ...sack }
    const bytes = this.#frame(end, segment, text, options.gso)
    const left = this.#through(end, bytes)
    return left.map(segmentOf)
  }

  /** The same, and the other end takes it. */
  say(end: End, from: number, to: number, options: SendOptions = {}): Segment[] {
    const left = this.send(end, from, to, options)
    for (const segment of left) this.other(end).take(segment)
    return left
  }

  /** Appends to an end's text, sends that, and the other end acknowledges. What the other end got. */
  tell(end: End, text: string, options: SendOptions = {}): Segment[] {
    const from = end.text.length
    end.text += text
    const got = this.say(end, from, end.text.length, options)
    this.acknowledge(this.other(end))
    return got
  }

  acknowledge(end: End, options: SendOptions = {}): Segment[] {
    const from = end.text.length
    return this.say(end, from, from, options)
  }

  #frame(
    end: End,
    segment: { seq: number; ack: number; flags: string; options?: Uint8Array },
    text: string,
    gso?: number,
  ): Uint8Array {
    const own = end === this.client ? this.clientPort : this.serverPort
    const peer = end === this.client ? this.#seenServer : this.#seenClient
    return frame({
      eth: this.#isInside(end) ? { src: MAC.host, dst: MAC.lan } : { src: MAC.server, dst: MAC.wan },
      ip: { src: this.#addressOf(end), dst: peer.address, dontFragment: true },
      tcp: { sport: own, dport: peer.port, ...segment },
      payload: Uint8Array.from(Buffer.from(text, 'latin1')),
      ...(gso === undefined ? {} : { gso: { size: gso } }),
    })
  }
}

function sackOption(blocks: readonly (readonly [number, number])[]): Uint8Array {
  const option = Buffer.alloc(4 + blocks.length * 8, tcp.OPTION_NOP)
  option[2] = tcp.OPTION_SACK
  option[3] = 2 + blocks.length * 8
  for (const [i, [left, right]] of blocks.entries()) {
    option.writeInt32BE(left | 0, 4 + i * 8)
    option.writeInt32BE(right | 0, 8 + i * 8)
  }
  return option
}
