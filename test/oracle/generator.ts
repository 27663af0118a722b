// Sequences as two real ends with a lossy, hostile network between them would produce: most segments are what an end
// would send next; now and then one is old, early, lost, forged, or stands exactly at the edge of a window. The
// generator follows the gateway with the reference tracker: what the gateway drops, the other end never sees.

import type { TcpState } from '../../src/conntrack/tcp-state.ts'
import type { Random } from '../helpers/mutations.ts'
import { connect, Endpoint, LARGEST, type Offer } from './endpoint.ts'
import { GAINED, ReferenceTracker, type Settings } from './reference.ts'
import type { Entry } from './reference-entry.ts'
import { type End, onWire, type Segment, type Sequence, type Side } from './script.ts'

const SHORTEST = 8
const LONGEST = 22
const ANNOUNCEMENT = 'PORT 10,0,0,5,{port}\r\n'
const GOALS: readonly TcpState[] = ['CLOSE_WAIT', 'LAST_ACK', 'LAST_ACK', 'TIME_WAIT', 'TIME_WAIT']
/** One sequence in so many has a helper's edit. */
const HELPED = 6
/** One segment in so many is not what its end would send. */
const DEVIATES = 4

export function generate(seed: number, random: Random, settings: Settings): Sequence {
  return new Generator(seed, random, settings).sequence()
}

class Generator {
  readonly #random: Random
  readonly #tracker: ReferenceTracker
  readonly #frame: Sequence
  readonly #c: Endpoint
  readonly #s: Endpoint
  readonly #sent: Segment[] = []
  /** What comes next in any case. */
  readonly #due: (() => Segment)[] = []
  /** A connection may be on its straight way to this state first, with nothing lost and nothing wrong. */
  #goal: TcpState | undefined
  /** Nothing is lost. */
  #isStraight = false

  constructor(seed: number, random: Random, settings: Settings) {
    this.#random = random
    const helped = random(HELPED) === 0
    const opener: Side = helped || random(2) === 0 ? 'inside' : 'outside'
    this.#frame = { name: `generated ${seed}`, opener, helped, isn: [this.#isn(), this.#isn()], segments: [] }
    this.#c = new Endpoint('c', this.#offer())
    this.#s = new Endpoint('s', this.#offer())
    connect(this.#c, this.#s)
    this.#tracker = new ReferenceTracker(this.#frame, settings)
    if (helped) this.#announce()
    else this.#goal = GOALS[random(2 * GOALS.length)]
  }

  /** Near the places where numbers wrap or signs change, as often as anywhere else. */
  #isn(): number {
    const near = [0, 1, 2 ** 31, 2 ** 32 - 1][this.#random(8)]
    return near === undefined ? this.#random(2 ** 32) : (near - this.#random(3000)) >>> 0
  }

  #offer(): Offer {
    const wscale = this.#pick([undefined, 0, 2, 7, 7, 14, 15, 255] as const)
    const window = this.#pick([64240, 65535, 29200, 1000, 1, 0])
    return { wscale, sackOK: this.#random(2) === 0, window, timestamps: this.#random(4) === 0 }
  }

  #pick<T>(choices: readonly T[]): T {
    return choices[this.#random(choices.length)]!
  }

  /** A connection to a server that a helper reads: it is opened, used, and announces an endpoint. */
  #announce(): void {
    const [c, s] = [this.#c, this.#s]
    const line = (end: Endpoint, text: string) => () => end.make('PA', end.next, { text, length: text.length })
    this.#due.push(c.syn, s.synAck, c.ack, line(s, '220 x\r\n'), line(c, 'USER annA\r\n'), s.ack, line(c, ANNOUNCEMENT))
    this.#isStraight = true
  }

  sequence(): Sequence {
    const length = SHORTEST + this.#random(LONGEST - SHORTEST + 1)
    while (this.#sent.length < length) {
      if (this.#goal !== undefined && this.#tracker.entry?.state === this.#goal) this.#goAstray()
      const made = this.#next()
      if (made) this.#send(made)
    }
    return { ...this.#frame, segments: this.#sent }
  }

  /** There, what comes next is something that doesn't belong there. */
  #goAstray(): void {
    this.#goal = undefined
    for (let i = 0; i < 3; i++) this.#due.push(() => this.#deviation())
  }

  #next(): Segment | undefined {
    if (this.#goal) return this.#straight()
    const due = this.#due.shift()
    if (this.#due.length === 0) this.#isStraight = false
    if (due) return due()
    return this.#random(DEVIATES) === 0 ? this.#deviation() : this.#plausible()
  }

  /** The next segment of a connection that is opened, used once and closed by c. */
  #straight(): Segment {
    const [c, s] = [this.#c, this.#s]
    if (s.expected === undefined) return c.syn()
    if (c.expected === undefined) return s.synAck()
    if (!c.finSent) return c.acked === 0 || this.#tracker.entry?.state === 'SYN_RECV' ? c.data(10) : c.fin(0)
    if (this.#tracker.entry?.state === 'FIN_WAIT') return s.ack()
    return s.finSent ? c.ack() : s.fin(0)
  }

  #send(made: Segment): void {
    const [from, to] = made.end === 'c' ? [this.#c, this.#s] : [this.#s, this.#c]
    from.hasSent(made)
    // Lost before the gateway.
    const isStraight = this.#goal !== undefined || this.#isStraight
    if (!isStraight && this.#random(25) === 0) return
    this.#sent.push(made)
    const passes = this.#tracker.judge(made).outcome !== 'invalid'
    // Lost behind the gateway.
    if (passes && (isStraight || this.#random(25) !== 0)) to.hasReceived(this.#translated(made))
  }

  /** As it comes to the other end, when a helper has made an announcement longer. */
  #translated(made: Segment): Segment {
    const [at] = this.#tracker.edits
    if (at === undefined) return made
    if (made.end === 's') return made.ack - 1 > at ? { ...made, ack: made.ack - GAINED } : made
    if (made.seq === at) return { ...made, length: made.length + (made.text === '' ? 0 : GAINED) }
    return made.seq > at ? { ...made, seq: made.seq + GAINED } : made
  }

  /** How much higher s sees c's numbers. */
  #gained(of: End): number {
    return of === 'c' && this.#tracker.edits.length > 0 ? GAINED : 0
  }

  /** Data that is not acknowledged; of an announcement all, since half a line is another matter. */
  #again(end: Endpoint): Segment {
    if (end.acked >= end.next) return end.ack()
    const sent = this.#frame.helped ? this.#sent.findLast((made) => made.end === end.end && made.length > 0) : undefined
    return sent ?? end.again(Math.min(LARGEST, end.next - end.acked))
  }

  /** What an end would send next, by what both have seen. */
  #plausible(): Segment | undefined {
    const [c, s] = [this.#c, this.#s]
    if (s.expected === undefined) return this.#random(20) === 0 ? s.syn() : c.syn()
    if (c.expected === undefined) return this.#opening()
    const end = this.#random(2) === 0 ? c : s
    const state = this.#tracker.entry?.state
    const isOver = state === undefined || state === 'TIME_WAIT' || state === 'CLOSE'
    if (isOver && this.#random(3) === 0) return this.#reuse()
    const moves: (() => Segment | undefined)[] = [
      () => end.ack(),
      () => end.ack(),
      () => this.#data(end),
      () => this.#data(end),
      () => this.#data(end),
      () => this.#again(end),
      () => this.#window(end),
      () => this.#keepAlive(end),
      () => this.#sack(end),
      () => (end.finSent ? end.ack() : end.fin(this.#pick([0, 0, 100]))),
      () => (this.#random(4) === 0 ? end.make('RA', end.next) : undefined),
      () => (this.#random(4) === 0 ? end.make('R', end.next, { ack: 0 }) : undefined),
    ]
    return this.#pick(moves)()
  }

  /** The answers that a SYN can have. */
  #opening(): Segment {
    const [c, s] = [this.#c, this.#s]
    const choice = this.#random(20)
    if (choice < 12) return s.synAck()
    if (choice < 14) return c.syn()
    if (choice < 16) return s.make('S', s.next)
    if (choice < 17) return s.make('RA', 0 - this.#frame.isn[1])
    if (choice < 18) return s.make('A', 5000, { ack: 70_000 })
    return choice < 19 ? c.make('SA', c.next - 1, { ack: 0 }) : s.synAck()
  }

  #data(end: Endpoint): Segment {
    const room = end.allowed - end.next
    const length = Math.min(this.#pick([1, 10, 100, 1000, LARGEST]), Math.max(1, room))
    // The segments before it are lost or come late: it is the last one that the window has room for.
    if (room > LARGEST && this.#random(6) === 0) return end.make('A', end.next + room - length, { length })
    return this.#random(12) === 0 ? { ...end.data(length), flags: 'PAU', urgent: 1 } : end.data(length)
  }

  #window(end: Endpoint): Segment {
    end.window = this.#pick([0, 0, 1, 100, end.offer.window, 65535])
    return end.ack()
  }

  /** RFC 1122 section 4.2.3.6, with a byte of rubbish or without; a window probe is the next byte. */
  #keepAlive(end: Endpoint): Segment {
    return this.#pick([
      end.make('A', end.next - 1),
      end.make('A', end.next - 1, { length: 1 }),
      end.make('A', end.next, { length: 1 }),
    ])
  }

  #sack(end: Endpoint): Segment {
    const peer = end === this.#c ? this.#s : this.#c
    const from = end.expected ?? 0
    const highest = peer.next + this.#gained(peer.end)
    const right = this.#random(8) === 0 ? highest + 1 : highest
    if (right <= from + 1) return end.ack()
    return end.make('A', end.next, { options: { sack: [[from + 1, right]] } })
  }

  /** Both ends have forgotten the connection, or one has, and the tuple is used again. */
  #reuse(): Segment {
    const end = this.#random(5) === 0 ? this.#s : this.#c
    const peer = end === this.#c ? this.#s : this.#c
    end.restart(end.next + this.#pick([1, 100_000, 2 ** 30, -100_000]))
    peer.restart(peer.next + this.#pick([1, 100_000, 2 ** 30, -100_000]))
    return end.syn()
  }

  /** Something that no end in its right mind would send at this moment. */
  #deviation(): Segment {
    const end = this.#random(2) === 0 ? this.#c : this.#s
    const choice = this.#random(13)
    if (choice === 12) return this.#challenged()
    if (choice === 0)
      return end.make(this.#pick(['', 'F', 'P', 'U', 'SF', 'SR', 'SFA', 'FR', 'RU', 'SAU', 'SRA']), end.next)
    if (choice === 1) return { ...end.data(10), badChecksum: true }
    if (choice === 2) return end.make('A', end.next, { dataOffset: this.#pick([4, 15]), options: {} })
    if (choice < 8) return this.#atAnEdge(end, this.#anyFlags())
    return end.make(
      this.#anyFlags(),
      this.#pick([end.next, end.next - 1, end.acked, 0, 1, end.next + 100, end.next + 100_000]),
      {
        length: this.#pick([0, 0, 0, 10]),
        ack: this.#pick([end.expected ?? 0, 0, 1, (end.expected ?? 0) + 1, 100_000]),
      },
    )
  }

  /** A SYN into the middle of a connection, and the answer of an end that holds by RFC 5961 section 4. */
  #challenged(): Segment {
    this.#due.unshift(() => this.#s.ack())
    if (this.#random(2) === 0) this.#due.push(() => this.#c.make('R', this.#s.expected ?? 0))
    return this.#c.make('S', this.#c.next + 100_000, { ack: 0 })
  }

  #anyFlags(): string {
    return this.#pick(['S', 'SA', 'FA', 'A', 'A', 'R', 'RA', 'PA', 'SU', 'FAU'])
  }

  /** One of the numbers that a window test draws its line at, or its neighbour. */
  #atAnEdge(end: Endpoint, flags: string): Segment {
    const { entry } = this.#tracker
    if (!entry) return end.make(flags, end.next)
    const [sender, receiver] = edgesOf(entry, end.end, this.#frame)
    const length = this.#pick([0, 0, 1, 100])
    const offset = this.#pick([-1, 0, 0, 1, 1, 2])
    const relative = (absolute: number, of: End): number => (absolute - onWire(this.#frame, of, 0)) | 0
    const peer: End = end.end === 'c' ? 's' : 'c'
    const seqEdges = [
      sender.maxEnd,
      sender.maxEnd + receiver.maxWin,
      sender.end - receiver.maxWin - length,
      sender.end,
      receiver.maxAck ?? 0,
    ]
    const ackEdges = [receiver.end, receiver.end - Math.max(66_000, sender.maxWin), receiver.maxEnd]
    if (this.#random(2) === 0) return end.make(flags, relative(this.#pick(seqEdges) + offset, end.end), { length })
    const ack = relative(this.#pick(ackEdges) + offset, peer) + this.#gained(peer)
    return end.make(flags.includes('A') ? flags : 'A', end.next, { length, ack })
  }
}

function edgesOf({ opener, ends }: Entry, end: End, sequence: Sequence) {
  const isReply = (end === 'c') !== (opener === sequence.opener)
  return isReply ? ([ends[1], ends[0]] as const) : ends
}
