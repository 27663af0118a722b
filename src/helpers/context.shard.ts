// What a helper is given (helper.ts: HelperContext), over a connection's row and the bytes in hand. One object for all
// calls of this thread: a call begins with begin(), and what the helper has asked for is read from it afterwards
// (datapath/helped/helper-call.ts, and helped.ts there for datagrams). Nothing that the helper does has an effect on
// packets before its call has ended, except expectations, which stand from the moment they are made: before the bytes
// that announce them can go on. Owner: this thread.

import { baseOf, SEEN_REPLY, TCP_STATE_MASK, TCP_STATE_SHIFT } from '../conntrack/connection-table.ts'
import { dstOf, originOf, portsWordOf, protocolOf, srcOf, stateWordOf } from '../conntrack/connections.shard.ts'
import { field } from '../conntrack/expectation-slots.shard.ts'
import { ANY_SOURCE, INACTIVE, PERMANENT } from '../conntrack/expectation-table.ts'
import { activate, withdraw } from '../conntrack/expectations.shard.ts'
import { ESTABLISHED } from '../conntrack/tcp-state.ts'
import type { Direction as ConntrackDirection } from '../conntrack/terms.ts'
import {
  CT_ESTABLISHED,
  CT_IS_REPLY,
  CT_NEW,
  CT_RELATED,
  destinationPort,
  INSIDE,
  invertPorts,
  opposite,
  sourcePort,
} from '../conntrack/terms.ts'
import { ctinfo } from '../conntrack/track.shard.ts'
import { CELL } from '../counters/counters.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { Handle, Row } from '../memory/brand.ts'
import { type Announce, announce, announceFailure } from '../nat/expected.shard.ts'
import type { Addr, Ports } from '../wire/address.ts'
import { formatAddress, htons, ntohs, parseAddress } from '../wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import type {
  Announced,
  Announcement,
  CtInfo,
  Direction,
  HelperContext,
  Hook,
  Line,
  Protocol,
  Tuple,
} from './helper.ts'
import { helperByName, type Registered } from './registry.shard.ts'

const LF = '\n'

const INFO: Readonly<Record<number, CtInfo>> = {
  [CT_NEW]: 'new',
  [CT_RELATED]: 'related',
  [CT_ESTABLISHED]: 'established',
  [CT_RELATED + CT_IS_REPLY]: 'related-reply',
  [CT_ESTABLISHED + CT_IS_REPLY]: 'established-reply',
}

/** The reasons of the metric announcements_refused, in its order. */
const REFUSED = ['invalid', 'not-established', 'not-allowed'] as const

/** `length` characters of the text from `at` become another text. */
export interface Mangled {
  readonly at: number
  readonly length: number
  readonly text: string
}

/** A call of a helper: which one, for which packets of which connection, and what it may read and change. */
export interface Call {
  readonly helper: Registered
  readonly row: Row
  readonly direction: ConntrackDirection
  readonly state: unknown
  readonly text: string
  /** The text begins in the middle of a line. */
  readonly midLine: boolean
  /** Nothing follows the text. */
  readonly ended: boolean
  /** How many spans of the text may be rewritten now. */
  readonly mostRewrites: number
  /** So many characters at the beginning have gone on already, because they were held for too long. */
  readonly gone: number
}

export class Context implements HelperContext {
  text = ''
  ended = false
  state: unknown
  /** What the helper asked for: the first held character (-1: none), what is rewritten, no more calls. */
  heldFrom = -1
  readonly mangled: Mangled[] = []
  isDone = false
  /**
   * A port is on its way to the shard that the endpoint belongs to, or earlier rewrites have to be acknowledged first:
   * the call is to be made again (retreat()).
   */
  mustWait = false
  /** In the middle of a change of common memory: what is thrown there is the shard's fault, and its end. */
  isAtWork = false
  /** Expectations made in this call. */
  readonly made: Handle[] = []
  /** An expectation was refused, or what was to be rewritten is no span of the text. */
  isRefused = false
  /** A span couldn't be rewritten, because bytes of it have gone on. */
  isTooLate = false
  /** Nothing follows, and from here on the helper would have waited for more; -1: nowhere. */
  undecidedFrom = -1
  readsLines = false
  #row: Row = 0
  #direction: ConntrackDirection = 0
  #midLine = false
  #mostRewrites = 0
  #gone = 0
  /** Where the line in hand begins, and how much was made and rewritten before it. */
  #lineAt = 0
  #madeBefore = 0
  #mangledBefore = 0
  #helper!: Registered

  begin(call: Call): void {
    this.#helper = call.helper
    this.#row = call.row
    this.#direction = call.direction
    this.state = call.state
    this.text = call.text
    this.#midLine = call.midLine
    this.ended = call.ended
    this.#mostRewrites = call.mostRewrites
    this.#gone = call.gone
    this.heldFrom = -1
    this.mangled.length = 0
    this.isDone = false
    this.mustWait = false
    this.isAtWork = false
    this.made.length = 0
    this.isRefused = false
    this.isTooLate = false
    this.undecidedFrom = -1
    this.readsLines = false
    this.#lineAt = 0
    this.#madeBefore = 0
    this.#mangledBefore = 0
  }

  /**
   * The call has to be made again, from the line that couldn't be settled on, or from the beginning: that is held, and
   * what was rewritten of it is forgotten. Returns what was expected because of it, to be withdrawn.
   */
  retreat(): Handle[] {
    this.heldFrom = this.#lineAt
    this.mangled.length = this.#mangledBefore
    return this.made.splice(this.#madeBefore)
  }

  // --- what it is about ---

  get direction(): Direction {
    return this.#direction === 0 ? 'original' : 'reply'
  }

  get info(): CtInfo {
    return INFO[ctinfo(this.#row, this.#direction)]!
  }

  get hook(): Hook {
    return (originOf(this.#row) ^ this.#direction) === INSIDE ? 'postrouting' : 'prerouting'
  }

  get established(): boolean {
    const word = stateWordOf(baseOf(this.#row))
    if ((word & SEEN_REPLY) === 0) return protocolOf(this.#row) === PROTO_UDP && this.#direction === 0
    return protocolOf(this.#row) !== PROTO_TCP || (word & TCP_STATE_MASK) >> TCP_STATE_SHIFT >= ESTABLISHED
  }

  get tuple(): Tuple {
    const base = baseOf(this.#row)
    const own = this.#direction
    return tupleOf(this.#row, srcOf(base, own), dstOf(base, own), portsWordOf(base, own))
  }

  get translated(): Tuple {
    const base = baseOf(this.#row)
    const other = opposite(this.#direction)
    return tupleOf(this.#row, dstOf(base, other), srcOf(base, other), invertPorts(portsWordOf(base, other)))
  }

  // --- reading ---

  *lines(couldBecome: (partial: string) => boolean): Generator<Line> {
    this.readsLines = true
    const { text } = this
    let at = 0
    if (this.#midLine) {
      at = text.indexOf(LF) + 1
      if (at === 0) return
    }
    for (let end = text.indexOf(LF, at); end >= 0; at = end + 1, end = text.indexOf(LF, at)) {
      const length = end > at && text[end - 1] === '\r' ? end - 1 - at : end - at
      this.#lineAt = at
      this.#madeBefore = this.made.length
      this.#mangledBefore = this.mangled.length
      yield { at, text: text.slice(at, at + length) }
      if (this.isDone || this.mustWait) return
    }
    if (at < text.length && couldBecome(text.slice(at))) this.hold(at)
  }

  hold(at: number): void {
    if (!Number.isInteger(at) || at < 0 || at >= this.text.length) return
    if (this.ended) this.undecidedFrom = at
    else this.heldFrom = at
  }

  done(): void {
    this.isDone = true
  }

  // --- doing ---

  expect(announcement: Announcement): Announced | undefined {
    const { port, protocol, from = 'peer', fromPort = 0, permanent, inactive, address } = announcement
    const kind = this.#helper.classes[announcement.class ?? 0]
    const timeout = announcement.timeoutSeconds ?? kind?.timeoutSeconds ?? 0
    const child = announcement.helper === undefined ? undefined : helperByName(announcement.helper)
    const isRight = isPort(port, 1) && isPort(fromPort, 0) && isPort(timeout, 1) && kind !== undefined
    if (!isRight || (announcement.helper !== undefined && child === undefined)) return this.#refused('invalid')
    if (!this.established) return this.#refused('not-established')
    const announced: Announce = {
      protocol: protocol === undefined ? protocolOf(this.#row) : protocol === 'tcp' ? PROTO_TCP : PROTO_UDP,
      port: htons(port),
      address: address === undefined ? 0 : parseAddress(address),
      fromAnyone: from === 'anyone',
      fromPort: htons(fromPort),
      flags: (permanent ? PERMANENT : 0) | (inactive ? INACTIVE : 0) | (from === 'anyone' ? ANY_SOURCE : 0),
      class: announcement.class ?? 0,
      helper: this.#helper.id,
      childHelper: child?.id ?? 0,
      maxExpected: kind.maxExpected,
      timeout,
    }
    this.isAtWork = true
    const handle = announce(this.#row, this.#direction, announced)
    this.isAtWork = false
    if (handle === 0) {
      if (announceFailure === 'not-allowed') return this.#refused('not-allowed')
      if (announceFailure === 'port-pending') this.mustWait = true
      else this.isRefused = true
      return undefined
    }
    this.made.push(handle)
    return {
      address: formatAddress(field(handle, 'dst')),
      port: ntohs(field(handle, 'dstPort')),
      handle,
    }
  }

  #refused(why: (typeof REFUSED)[number]): undefined {
    this.isRefused = true
    counters[CELL.announcementsRefused + REFUSED.indexOf(why)]! += 1
    return undefined
  }

  unexpect(handle: Handle): void {
    this.isAtWork = true
    withdraw(handle)
    this.isAtWork = false
  }

  activate(handle: Handle, active: boolean): void {
    activate(handle, active)
  }

  mangle(at: number, length: number, replacement: string): boolean {
    if (!this.#isSpan(at, length) || typeof replacement !== 'string') {
      this.isRefused = true
      return false
    }
    if (at < this.#gone) {
      this.isTooLate = true
      return false
    }
    if (this.mangled.length >= this.#mostRewrites) {
      this.mustWait = true
      return false
    }
    this.mangled.push({ at, length, text: replacement })
    return true
  }

  /** A helper may be JavaScript: what it says must not get any further if it is nonsense. */
  #isSpan(at: number, length: number): boolean {
    if (!Number.isInteger(at) || !Number.isInteger(length)) return false
    const last = this.mangled.at(-1)
    const from = last === undefined ? 0 : last.at + last.length
    return at >= from && length >= 1 && at + length <= this.text.length
  }
}

const isPort = (value: number, from: number): boolean => Number.isInteger(value) && value >= from && value <= 65535

function tupleOf(row: Row, src: Addr, dst: Addr, ports: Ports): Tuple {
  const protocol: Protocol = protocolOf(row) === PROTO_TCP ? 'tcp' : 'udp'
  return {
    protocol,
    src: { address: formatAddress(src), port: sourcePort(ports) },
    dst: { address: formatAddress(dst), port: destinationPort(ports) },
  }
}
