// One end of a generated connection, as far as a real TCP is one (RFC 9293): what it has sent, what it has received,
// the window it offers. It makes the segments that such an end would send; the generator decides which, and what goes
// wrong.

import { compare } from './reference-windows.ts'
import { type End, type Options, type Segment, segment } from './script.ts'

export interface Offer {
  readonly wscale: number | undefined
  readonly sackOK: boolean
  readonly window: number
  readonly timestamps: boolean
}

/** The most that is sent in one segment. */
export const LARGEST = 1400

export class Endpoint {
  readonly end: End
  readonly offer: Offer
  /** Next number to be sent, and the highest that the other end has acknowledged. Counted as in a script. */
  next = 0
  acked = 0
  /** The next number expected from the other end; undefined before its SYN. */
  expected: number | undefined
  /** Right edge of what the other end allows. */
  allowed = LARGEST
  /** The window it offers now, as sent. */
  window: number
  finSent = false
  peer: Endpoint | undefined

  constructor(end: End, offer: Offer) {
    this.end = end
    this.offer = offer
    this.window = offer.window
  }

  /** Windows are scaled if both ends have offered to. */
  get scale(): number {
    const { wscale } = this.offer
    return wscale !== undefined && this.peer?.offer.wscale !== undefined ? Math.min(14, wscale) : 0
  }

  synOptions(): Options {
    const { wscale, sackOK, timestamps } = this.offer
    return {
      mss: 1460,
      ...(wscale !== undefined && { wscale }),
      ...(sackOK && { sackOK }),
      ...(timestamps && { timestamps }),
    }
  }

  /** With this sequence number; whatever it knows of the other end is said. */
  make(flags: string, seq: number, more: Partial<Segment> = {}): Segment {
    const isSyn = flags.includes('S')
    const options = isSyn ? this.synOptions() : this.offer.timestamps ? { timestamps: true } : {}
    const ack = flags.includes('A') ? (this.expected ?? 0) : 0
    const window = isSyn ? this.offer.window : this.window
    return segment(this.end, flags, seq, { ack, window, options, ...more })
  }

  syn = (): Segment => this.make('S', this.next)
  synAck = (): Segment => this.make('SA', this.next)
  ack = (): Segment => this.make('A', this.next)
  data = (length: number): Segment => this.make(length > 500 ? 'A' : 'PA', this.next, { length })
  fin = (length: number): Segment => this.make('FA', this.next, { length })
  again = (length: number): Segment => this.make('A', this.next - length, { length })

  /** Notes what it has sent, as if it were to be believed: numbers move forward only. */
  hasSent({ flags, seq, length }: Segment): void {
    const end = seq + length + Number(flags.includes('S')) + Number(flags.includes('F'))
    if (flags.includes('R') || compare(end, this.next) <= 0) return
    this.next = end
    if (flags.includes('F')) this.finSent = true
  }

  /** Notes what has come from the other end. */
  hasReceived({ flags, seq, length, ack, window }: Segment): void {
    if (flags.includes('R')) return
    const end = seq + length + Number(flags.includes('S')) + Number(flags.includes('F'))
    if (flags.includes('S')) this.expected = end
    else if (this.expected !== undefined && compare(seq, this.expected) <= 0 && compare(end, this.expected) > 0)
      this.expected = end
    if (!flags.includes('A')) return
    if (compare(ack, this.acked) > 0) this.acked = ack
    const right = ack + (flags.includes('S') ? window : window * 2 ** (this.peer?.scale ?? 0))
    if (compare(right, this.allowed) > 0) this.allowed = right
  }

  /** It begins anew, with an initial number that is ahead of all it has sent (or not). */
  restart(at: number): void {
    Object.assign(this, {
      next: at,
      acked: at,
      allowed: at + LARGEST,
      expected: undefined,
      finSent: false,
      window: this.offer.window,
    })
  }
}

export const connect = (c: Endpoint, s: Endpoint): void => {
  c.peer = s
  s.peer = c
}
