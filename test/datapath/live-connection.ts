// A connection that somebody outside, who knows its addresses and ports and none of its numbers, would like to end or
// to bend: brought to a state, attacked, looked at, and gone on with to its end. In each state that allows it the
// inside end has sent a line that is not acknowledged yet; where a helper reads, that line is rewritten. The outside
// end closes first, so that the inside one still talks while the connection is half closed.

import { expect } from 'vitest'
import type { TcpState } from '../../src/conntrack/tcp-state.ts'
import type { helpedConnectionOf } from '../../src/datapath/helped/helped-connections.ts'
import { BUILTIN } from '../../src/helpers/builtin.ts'
import type { PortForward } from '../../src/nat/port-forward-rules.ts'
import type { FrameSpec, TcpSpec } from '../../src/testing/builder.ts'
import { parseAddress } from '../../src/wire/address.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import * as tcp from '../../src/wire/tcp.ts'
import { Dialogue, type DialogueOptions, type End, type Segment } from './helped/dialogue.ts'
import { EXTERNAL, HOST } from './network.ts'
import { type More, tcpSegment } from './packets.ts'
import { type Connection, connectionsOf } from './tables.ts'

const FTP = 21
const HTTP = 80
/** Both wrap: the one as a signed number, the other as an unsigned one. */
const CLIENT_ISN = 2 ** 31 - 40
const SERVER_ISN = 2 ** 32 - 40

const forwardTo = (port: number): PortForward => ({
  protocol: ipv4.PROTO_TCP,
  address: null,
  port,
  toAddress: parseAddress(HOST),
  toPort: port,
})

export type Kind = (typeof KINDS)[number]
export const KINDS = ['from inside', 'from inside, helped', 'to a forward', 'to a forward, helped'] as const

export type Reached = (typeof STATES)[number]
export const STATES = [
  'SYN_SENT',
  'SYN_RECV',
  'ESTABLISHED',
  'FIN_WAIT',
  'CLOSE_WAIT',
  'LAST_ACK',
  'TIME_WAIT',
] as const satisfies readonly TcpState[]

/** What the connection is known by, without what a segment that goes on may count. */
export type Known = Omit<Connection, 'packets' | 'bytes'> & { readonly queue: number; readonly mss: readonly number[] }

const MSS = 1460
/** Nobody remembers what a SYN announced that may have been made up (RFC 9293 3.7.1). */
const UNKNOWN_MSS = 536

export class LiveConnection {
  readonly dialogue: Dialogue
  readonly #helpedConnectionOf: typeof helpedConnectionOf
  readonly #isHelped: boolean
  readonly #isForwarded: boolean
  #reached = -1
  #isAnew = false
  #lines = 0
  /** Where the inside end's last line begins, which is not acknowledged. */
  #lastLine = 0

  static async begin(kind: Kind, options: DialogueOptions = {}): Promise<LiveConnection> {
    const isHelped = kind.endsWith('helped')
    const isForwarded = kind.startsWith('to')
    const serverPort = isHelped ? FTP : HTTP
    const ways: DialogueOptions = isForwarded ? { way: 'in', forwards: [forwardTo(serverPort)] } : {}
    const numbers = { clientIsn: CLIENT_ISN, serverIsn: SERVER_ISN, serverPort, handshake: false }
    const dialogue = await Dialogue.begin({ ...numbers, ...ways, ...options }, async (gateway) => {
      if (isHelped) await gateway.help(BUILTIN.ftp!())
    })
    const { helpedConnectionOf } = await import('../../src/datapath/helped/helped-connections.ts')
    return new LiveConnection(dialogue, helpedConnectionOf, isHelped, isForwarded)
  }

  private constructor(
    dialogue: Dialogue,
    helpedOf: typeof helpedConnectionOf,
    isHelped: boolean,
    isForwarded: boolean,
  ) {
    this.dialogue = dialogue
    this.#helpedConnectionOf = helpedOf
    this.#isHelped = isHelped
    this.#isForwarded = isForwarded
  }

  get inside(): End {
    return this.#isForwarded ? this.dialogue.server : this.dialogue.client
  }
  get outside(): End {
    return this.#isForwarded ? this.dialogue.client : this.dialogue.server
  }

  /** The one connection that there is. */
  get row(): Connection {
    const all = connectionsOf(this.dialogue.gateway.tables)
    expect(all).toHaveLength(1)
    return all[0]!
  }

  get known(): Known {
    const { packets, bytes, ...known } = this.row
    const streams = this.#helpedConnectionOf(known.row)?.streams ?? []
    const queue = this.dialogue.gateway.tables.queues.queueOf(known.row)
    return { ...known, queue, mss: streams.map(({ mss }) => mss) }
  }

  /** Brings it to this state. */
  reach(state: Reached): this {
    while (this.#reached < STATES.indexOf(state)) this.#step(STATES[++this.#reached]!)
    return this
  }

  #step(state: Reached): void {
    const { dialogue, inside, outside } = this
    if (state === 'SYN_SENT') dialogue.open()
    else if (state === 'SYN_RECV') this.#arrives(dialogue.answer(), dialogue.client)
    else if (state === 'ESTABLISHED') this.#establish()
    else if (state === 'FIN_WAIT') this.#close(outside)
    else if (state === 'CLOSE_WAIT') this.#acknowledge(inside)
    else if (state === 'LAST_ACK') {
      this.repeatLine()
      this.#close(inside)
    } else this.#acknowledge(outside)
    expect(this.row.state).toBe(state)
  }

  #arrives(segments: readonly Segment[], at: End): void {
    expect(segments.length).toBeGreaterThan(0)
    for (const segment of segments) at.take(segment)
  }

  #establish(): void {
    const { dialogue } = this
    this.#arrives(dialogue.send(dialogue.client, 0, 0), dialogue.server)
    dialogue.tell(dialogue.server, '220 ready\r\n')
    this.#loseLine()
    this.talk()
  }

  /** Both ends forget it, and open another one by the same ports: the row becomes that one's by the SYN/ACK. */
  beginAnew(clientIsn: number, serverIsn: number): this {
    const { dialogue } = this
    dialogue.forget(clientIsn, serverIsn)
    dialogue.open()
    this.#isAnew = true
    this.#reached = STATES.indexOf('SYN_SENT')
    return this.reach('ESTABLISHED')
  }

  /** Both ends say something, and both acknowledge; the line that has not been acknowledged before is. */
  talk(): void {
    const { dialogue, inside, outside } = this
    this.repeatLine()
    dialogue.acknowledge(outside)
    dialogue.tell(outside, `NOOP ${this.#lines}\r\n`)
    expect(inside.received).toBe(outside.text)
    this.#loseLine()
  }

  /** A line of the inside end's, which is lost behind the gateway. */
  #loseLine(): void {
    const { dialogue, inside, outside } = this
    const port = `${4 + (this.#lines >> 8)},${this.#lines & 255}`
    this.#lines++
    let line = `PORT ${HOST.replaceAll('.', ',')},${port}\r\n`
    if (this.#isForwarded) {
      dialogue.tell(outside, 'PASV\r\n')
      line = `227 Entering Passive Mode (${HOST.replaceAll('.', ',')},${port})\r\n`
    }
    this.#lastLine = inside.text.length
    inside.text += line
    expect(dialogue.send(inside, this.#lastLine, inside.text.length)).toHaveLength(1)
  }

  /** The last line was lost, and its sender repeats it: its receiver gets it whole, and the same bytes each time. */
  repeatLine(): void {
    const { dialogue, inside, outside } = this
    const isClosed = this.#reached >= STATES.indexOf('LAST_ACK')
    if (inside.text.length > this.#lastLine)
      this.#arrives(dialogue.send(inside, this.#lastLine, inside.text.length, { fin: isClosed }), outside)
    this.#compare()
  }

  #compare(): void {
    const { inside, outside } = this
    expect(outside.received).toHaveLength(outside.arrived.length)
    const host = HOST.replaceAll('.', ',')
    const external = EXTERNAL.replaceAll('.', ',')
    expect([...inside.contradictions, ...outside.contradictions]).toEqual([])
    if (!this.#isHelped) expect(outside.received).toBe(inside.text)
    else {
      expect(outside.received).not.toContain(host)
      const unwritten = (text: string, address: string) => text.replaceAll(new RegExp(`${address},\\d+,\\d+`, 'g'), '@')
      expect(unwritten(outside.received, external)).toBe(unwritten(inside.text, host))
    }
  }

  /** The outside end says nothing more, and closes. */
  closes(): void {
    this.repeatLine()
    this.reach('FIN_WAIT')
    expect(this.inside.peerHasEnded).toBe(true)
  }

  #close(end: End): void {
    const { dialogue } = this
    const at = end.text.length
    this.#arrives(dialogue.send(end, at, at, { fin: true }), dialogue.other(end))
    expect(dialogue.other(end).peerHasEnded).toBe(true)
  }

  /** Behind its FIN, if it has sent one. */
  #acknowledge(end: End): void {
    const at = end.text.length + (this.dialogue.other(end).peerHasEnded ? 1 : 0)
    this.#arrives(this.dialogue.send(end, at, at), this.dialogue.other(end))
  }

  /** It goes on to its end: nothing of it is lost, nothing is dropped, what is to be rewritten is. */
  goesOn(): void {
    const { dialogue, inside, outside } = this
    const { gateway } = dialogue
    const drops = gateway.drops()
    const from = STATES[this.#reached]!
    if (from === 'SYN_SENT' || from === 'SYN_RECV') this.reach('ESTABLISHED')
    if (this.row.state === 'ESTABLISHED') {
      expect(this.known).toMatchObject({ assured: true, timeout: 7440, queue: 0 })
      expect(this.known.mss).toHaveLength(this.#isHelped ? 2 : 0)
      for (const mss of this.known.mss) expect(mss === MSS || (this.#isAnew && mss === UNKNOWN_MSS)).toBe(true)
      this.talk()
    } else if (from !== 'TIME_WAIT') this.repeatLine()
    this.reach('LAST_ACK')
    // The last FIN was lost, and comes again.
    if (from !== 'TIME_WAIT') this.repeatLine()
    this.reach('TIME_WAIT')
    this.#acknowledge(outside)
    expect(outside.peerHasEnded && inside.peerHasEnded).toBe(true)
    expect(inside.received).toBe(outside.text)
    this.#compare()
    expect(this.row).toMatchObject({ state: 'TIME_WAIT', timeout: 240 })
    expect(gateway.drops()).toEqual(drops)
    gateway.check()
  }

  /** A segment that somebody outside makes up: its numbers are this far from those that the outside end would use. */
  madeUp(flags: string, seq: number, ack: number, more: More & { tcp?: Partial<TcpSpec> } = {}): FrameSpec {
    const { outside, dialogue } = this
    const { from, to } = dialogue.outside
    const numbers = { seq: (this.outsideNext + seq) >>> 0, ack: (outside.ack + ack) >>> 0 }
    return tcpSegment(from, to, flags, { ...more, tcp: { ...numbers, ...more.tcp } })
  }

  /** The number that the outside end's next byte has. */
  get outsideNext(): number {
    const { inside, outside, dialogue } = this
    const isSilent = this.#reached < (outside === dialogue.client ? 0 : 1)
    return (outside.isn + (isSilent ? 0 : 1) + outside.text.length + (inside.peerHasEnded ? 1 : 0)) | 0
  }
}

/** Flags that a segment may have, with the letters of the builder's. */
export const flagLetters = (bits: number): string =>
  [...'FSRPAUEW'].filter((_, bit) => (bits & (tcp.FIN << bit)) !== 0).join('')
