// One random story: a few flows of few hosts, played packet by packet. Most packets are what their sender would send
// next; some are changed, late, repeated, forged, in fragments, or about another packet. What comes of a packet decides
// about the next ones: an external port is known once something has left by it. All is drawn from a seed.

import { IP, long, word } from '../datapath/reference-packet.ts'
import { type Random, randomOf } from '../helpers/mutations.ts'
import { generate } from '../oracle/generator.ts'
import { onWire, otherEnd, type Segment, type Sequence, sideOf } from '../oracle/script.ts'
import { ADDRESS, cut, icmpErrorFrame, icmpFrame, portlessFrame, tcpFrame, udpFrame, type Where } from './frames.ts'
import { mutate } from './mutations.ts'
import { FIRST_PORT, LAST_PORT } from './settings.ts'

const INSIDE = 0
const OUTSIDE = 1
type Side = typeof INSIDE | typeof OUTSIDE

export interface Step {
  /** Milliseconds that go by before. */
  readonly pass: number
  readonly side: Side
  readonly frame: Uint8Array
  /** The shard that it comes to; -1: the one that owns it. */
  readonly at: number
}

/** Most stories are short; one in a few is long enough for a connection's whole life. */
const SHORTEST = 4
const LONGEST = 8
const LONG = 16
/** One packet in so many is changed. */
const MUTATED = 7
/** One datagram in so many is cut. */
const CUT = 12
const { host: HOST, other: OTHER, external: EXTERNAL, server: SERVER, second: SECOND, silent: SILENT } = ADDRESS
const HOSTS = [HOST, HOST, OTHER]
const REMOTES = [SERVER, SERVER, SECOND]
const PORTLESS = [47, 33, 136, 50]
const TRACKING = { pickup: false, liberal: false }
/** What an FTP client announces of its own, as characters of a fixed number. */
const ANNOUNCED = '72,100'

type Make = () => { readonly side: Side; readonly frame: Uint8Array } | undefined

/** Neighbouring seeds make stories that have nothing in common. */
function scattered(seed: number): number {
  let mixed = Math.imul(seed ^ (seed >>> 16), 0x7feb352d)
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x846ca68b)
  return mixed ^ (mixed >>> 16)
}

export class Story {
  readonly seed: number
  readonly #random: Random
  readonly #actors: Make[]
  #left: number
  #id = 0
  /** What has been sent, to be repeated, and what came through, to be quoted; by the side it came or left by. */
  readonly #sent: { readonly side: Side; readonly frame: Uint8Array }[] = []
  readonly #through: [Uint8Array[], Uint8Array[]] = [[], []]
  /** Fragments under way. */
  readonly #pieces: { readonly side: Side; readonly frame: Uint8Array }[] = []
  /** External ports (of ICMP: identifiers) that have been seen, by protocol; those that helpers have announced. */
  readonly #externalPorts = new Map<number, number[]>()
  #announced: { readonly by: number; readonly port: number } | undefined

  constructor(seed: number) {
    this.seed = seed
    this.#random = randomOf(scattered(seed))
    this.#left = SHORTEST + this.#random((this.#random(4) === 0 ? LONG : LONGEST) - SHORTEST + 1)
    this.#actors = Array.from({ length: 1 + this.#random(3) }, () => this.#actor())
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#random(list.length)]!
  }

  #where(side: Side, src: number, dst: number): Where {
    return { side, src, dst, id: 0x1000 + this.#id++ }
  }

  /** The next packet; undefined when the story is over. */
  next(): Step | undefined {
    for (let tries = 0; tries < 8 && this.#left > 0; tries++) {
      const made = this.#made()
      if (!made) continue
      this.#left--
      const frame = this.#random(MUTATED) === 0 ? mutate(made.frame, this.#random) : made.frame
      const side = this.#random(60) === 0 ? ((1 - made.side) as Side) : made.side
      this.#sent.push({ side, frame })
      return { pass: this.#time(), side, frame, at: this.#random(4) === 0 ? this.#random(64) : -1 }
    }
    return undefined
  }

  #made(): ReturnType<Make> {
    if (this.#pieces.length > 0 && this.#random(4) !== 0) return this.#piece()
    if (this.#announced && this.#random(4) === 0) return this.#expected(this.#announced)
    const choice = this.#random(24)
    if (choice === 0 && this.#sent.length > 0) return this.#pick(this.#sent)
    if (choice === 1) return this.#error()
    if (choice === 2) return this.#stray()
    const made = this.#pick(this.#actors)()
    if (!made || this.#random(CUT) !== 0 || made.frame.length < IP + 44) return made
    return this.#cut(made)
  }

  #time(): number {
    const choice = this.#random(64)
    if (choice < 44) return this.#random(20)
    if (choice < 58) return this.#random(1500)
    if (choice < 61) return this.#random(8000)
    return this.#pick([6100, 29_000, 31_000, 61_000, 181_000, 239_000, 241_000, 299_000, 301_000])
  }

  /** What has left because of the last packet, or because time has passed. */
  learn(toLan: readonly Uint8Array[], toWan: readonly Uint8Array[]): void {
    for (const frame of toLan) this.#through[INSIDE].push(frame)
    for (const frame of toWan) {
      this.#through[OUTSIDE].push(frame)
      if (long(frame, IP + 12) === EXTERNAL && frame.length >= IP + 28) this.#note(frame)
    }
  }

  #note(frame: Uint8Array): void {
    const protocol = frame[IP + 9]!
    const l4 = IP + (frame[IP]! & 15) * 4
    const port = word(frame, protocol === 1 ? l4 + 4 : l4)
    const known = this.#externalPorts.get(protocol)
    if (!known) this.#externalPorts.set(protocol, [port])
    else if (!known.includes(port)) known.push(port)
    if (protocol !== 6 || frame.length < l4 + 40) return
    const [, high, low] = /PORT 203,0,113,1,(\d+),(\d+)/.exec(Buffer.from(frame).toString('latin1')) ?? []
    if (high !== undefined) this.#announced = { by: long(frame, IP + 16), port: Number(high) * 256 + Number(low) }
  }

  /** An external port that somebody has, as far as anything is known of one. */
  #port(protocol: number, first = false): number {
    const known = this.#externalPorts.get(protocol)
    if (!known || this.#random(20) === 0) return FIRST_PORT + this.#random(LAST_PORT - FIRST_PORT + 1)
    return first ? known[0]! : this.#pick(known)
  }

  // --- who sends ---

  #actor(): Make {
    const choice = this.#random(16)
    if (choice < 7) return this.#tcp()
    if (choice < 11) return this.#udp()
    if (choice < 13) return this.#echo()
    if (choice < 14) return this.#portless()
    return choice < 15 ? this.#peer() : this.#hairpin()
  }

  /** A TCP connection as the oracle's generator draws it, by a port of its own: from inside, or to a port forward. */
  #tcp(): Make {
    const script = generate(this.seed, this.#random, TRACKING)
    // What a helper reads begins with a handshake and a login.
    if (script.helped) this.#left = LONG
    const inside = script.opener === 'inside' ? this.#pick(HOSTS) : HOST
    const insidePort = 5000 + this.#random(3)
    const remote = this.#pick(REMOTES)
    let at = this.#random(4) === 0 ? this.#random(3) : 0
    return () => {
      const made = script.segments[at++]
      return made && this.#segment(script, made, inside, insidePort, remote)
    }
  }

  #segment(script: Sequence, made: Segment, inside: number, insidePort: number, remote: number): ReturnType<Make> {
    const side: Side = sideOf(script, made.end) === 'inside' ? INSIDE : OUTSIDE
    const isForwarded = script.opener === 'outside'
    const [here, there] = isForwarded ? [8080, insidePort] : [insidePort, script.helped ? 21 : 80]
    const other = otherEnd(made.end)
    const ack = made.flags.includes('A') || made.ack !== 0 ? onWire(script, other, made.ack) : 0
    const numbers = { seq: onWire(script, made.end, made.seq), ack, edge: onWire(script, other, 0) }
    const text = made.text.replace('{port}', ANNOUNCED)
    if (side === INSIDE)
      return { side, frame: tcpFrame(this.#where(side, inside, remote), [here, there], made, numbers, text) }
    const port = isForwarded ? 8080 : this.#port(6)
    return { side, frame: tcpFrame(this.#where(side, remote, EXTERNAL), [there, port], made, numbers, text) }
  }

  #udp(): Make {
    const inside = this.#pick(HOSTS)
    const insidePort = 5000 + this.#random(3)
    const remote = this.#random(12) === 0 ? SILENT : this.#pick(REMOTES)
    const remotePort = this.#pick([80, 53, 443])
    const hasChecksum = this.#random(8) !== 0
    return () => {
      const length = this.#pick([0, 1, 8, 40, 100, 300])
      if (this.#random(5) < 3)
        return {
          side: INSIDE,
          frame: udpFrame(this.#where(INSIDE, inside, remote), [insidePort, remotePort], length, hasChecksum),
        }
      const from = this.#random(8) === 0 ? this.#pick(REMOTES) : remote
      const port = this.#random(10) === 0 ? 69 : this.#port(17)
      const sport = this.#random(8) === 0 ? 4444 : remotePort
      return {
        side: OUTSIDE,
        frame: udpFrame(this.#where(OUTSIDE, from, EXTERNAL), [sport, port], length, hasChecksum),
      }
    }
  }

  #echo(): Make {
    const inside = this.#pick(HOSTS)
    const identifier = 100 + this.#random(3)
    const remote = this.#pick(REMOTES)
    const type = this.#pick([8, 8, 8, 13, 15, 17])
    return () => {
      const length = this.#pick([0, 8, 56])
      if (this.#random(5) < 3)
        return { side: INSIDE, frame: icmpFrame(this.#where(INSIDE, inside, remote), type, identifier, length) }
      const answer = this.#random(6) === 0 ? type : type === 8 ? 0 : type + 1
      return { side: OUTSIDE, frame: icmpFrame(this.#where(OUTSIDE, remote, EXTERNAL), answer, this.#port(1), length) }
    }
  }

  #portless(): Make {
    const inside = this.#pick(HOSTS)
    const remote = this.#pick(REMOTES)
    const protocol = this.#pick(PORTLESS)
    return () => {
      const length = 8 + this.#random(60)
      return this.#random(2) === 0
        ? { side: INSIDE, frame: portlessFrame(this.#where(INSIDE, inside, remote), protocol, length) }
        : { side: OUTSIDE, frame: portlessFrame(this.#where(OUTSIDE, remote, EXTERNAL), protocol, length) }
    }
  }

  /** A server, or somebody else, comes to what has been announced to it. */
  #expected({ by, port }: { readonly by: number; readonly port: number }): ReturnType<Make> {
    const src = this.#random(6) === 0 ? this.#pick(REMOTES) : by
    const flags = this.#pick(['S', 'S', 'S', 'A', 'R'])
    const sport = this.#pick([20, 20, 4000])
    return { side: OUTSIDE, frame: this.#plain(this.#where(OUTSIDE, src, EXTERNAL), [sport, port], flags) }
  }

  /** Somebody outside who opens connections, to mapped ports and to forwarded ones. */
  #peer(): Make {
    const remote = this.#pick(REMOTES)
    return () => {
      const where = this.#where(OUTSIDE, remote, EXTERNAL)
      if (this.#random(2) === 0) {
        const port = this.#pick([8080, this.#port(6)])
        return {
          side: OUTSIDE,
          frame: this.#plain(where, [this.#pick([20, 80, 4000]), port], this.#pick(['S', 'S', 'A'])),
        }
      }
      const port = this.#pick([69, this.#port(17)])
      return { side: OUTSIDE, frame: udpFrame(where, [this.#pick([80, 53, 4000]), port], 20) }
    }
  }

  /** An inside host that talks to one of ours by the external address. */
  #hairpin(): Make {
    const inside = this.#pick(HOSTS)
    const insidePort = 5000 + this.#random(4)
    return () => {
      const where = this.#where(INSIDE, inside, EXTERNAL)
      if (this.#random(2) === 0) {
        const port = this.#pick([8080, this.#port(6)])
        return { side: INSIDE, frame: this.#plain(where, [insidePort, port], this.#pick(['S', 'S', 'A', 'SA', 'R'])) }
      }
      return { side: INSIDE, frame: udpFrame(where, [insidePort, this.#pick([69, this.#port(17)])], 30) }
    }
  }

  #plain(where: Where, ports: readonly [number, number], flags: string): Uint8Array {
    const made: Segment = {
      ...{ end: 'c', flags, seq: 0, ack: 0, length: 0, text: '', window: 64240, urgent: 0, options: {} },
      ...{ badChecksum: false, dataOffset: 0 },
    }
    const seq = this.#random(3) === 0 ? this.#random(2 ** 32) : 1000
    const ack = flags.includes('A') ? this.#pick([1, 1001, this.#random(2 ** 32)]) : 0
    return tcpFrame(where, ports, made, { seq, ack, edge: 0 }, '')
  }

  /** From anybody to anybody. */
  #stray(): ReturnType<Make> {
    const side = this.#random(2) as Side
    const src = this.#pick(side === INSIDE ? [...HOSTS, SERVER] : [...REMOTES, HOST, EXTERNAL])
    const dst = this.#pick(side === INSIDE ? [...REMOTES, EXTERNAL, ADDRESS.lan, ADDRESS.third] : [EXTERNAL, HOST])
    const where = this.#where(side, src, dst)
    const ports = [5000 + this.#random(3), this.#pick([80, 22, 8080, this.#port(6)])] as const
    return this.#random(2) === 0
      ? { side, frame: this.#plain(where, ports, this.#pick(['S', 'A', 'SA', 'R', 'RA', 'FA', 'SF', ''])) }
      : { side, frame: udpFrame(where, ports, 12) }
  }

  // --- what is made of other packets ---

  /** An ICMP error about something that came through: by its receiver, a router, or somebody in another's name. */
  #error(): ReturnType<Make> {
    const side = this.#random(3) === 0 ? INSIDE : OUTSIDE
    const through = this.#through[side]
    if (through.length === 0) return undefined
    const about = this.#pick(through)
    const by = [long(about, IP + 16), long(about, IP + 16), ADDRESS.router, SECOND, HOST, EXTERNAL]
    const where = this.#where(side, this.#pick(by), long(about, IP + 12))
    const end = IP + this.#pick([28, 28, 40, 60, 20, 24, 576])
    const quoted = about.slice(IP, Math.min(end, about.length))
    if (this.#random(4) === 0 && quoted.length > 0) quoted[this.#random(quoted.length)]! ^= 1 << this.#random(8)
    const [type, code] = this.#pick([
      [3, 3],
      [3, 1],
      [3, 4],
      [11, 0],
      [4, 0],
      [5, 1],
      [12, 0],
    ] as const)
    return { side, frame: icmpErrorFrame(where, type, code, quoted) }
  }

  /** The packet in fragments, in any order, some twice, some missing, some that overlap. */
  #cut({ side, frame }: { readonly side: Side; readonly frame: Uint8Array }): ReturnType<Make> {
    const pieces = cut(frame, this.#pick([8, 24, 32, 64]))
    if (pieces.length > 8) return { side, frame }
    const isInOrder = this.#random(2) === 0
    const order = isInOrder ? pieces : pieces.toSorted(() => this.#random(3) - 1)
    for (const piece of order) {
      if (this.#random(10) === 0) continue
      this.#pieces.push({ side, frame: piece })
      if (this.#random(8) === 0) this.#pieces.push({ side, frame: piece })
    }
    if (this.#random(6) === 0) {
      const [intruder] = cut(frame, 40).slice(1)
      if (intruder) this.#pieces.splice(this.#random(this.#pieces.length + 1), 0, { side, frame: intruder })
    }
    return this.#piece()
  }

  #piece(): ReturnType<Make> {
    this.#left++
    return this.#pieces.shift()
  }
}
