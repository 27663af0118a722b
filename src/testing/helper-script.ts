// For authors of helpers: tries a helper without a gateway. A Script is a client, a server and the NAT between them, in
// memory. `client(bytes)` and `server(bytes)` send, in pieces of any size, and return what the other side receives;
// `expected` says which connections would be let in, `edits` which spans were rewritten, `held()` what waits for more:
//
//   const script = new Script(ftp, { externalPort: () => 51234 })
//   script.server('220 ready\r\n')
//   script.client('PORT 10,0,0,5,156,64\r\n')   // 'PORT 203,0,113,1,200,34\r\n'
//   script.expected                             // [{ from: 'server', protocol: 'tcp', to: '10.0.0.5:40000', ... }]
//
// The Script stands in for the helper context of a shard (src/helpers/context.shard.ts) and refuses what that one
// refuses. A larger example: the tutorial, docs/helper-tutorial.md. The package exports this module as natloom/testing.

import {
  type Announced,
  type Announcement,
  type Direction,
  type Endpoint,
  type Helper,
  type HelperContext,
  type Line,
  type Tuple,
  Verdict,
} from '../helpers/helper.ts'

export const CLIENT: Endpoint = { address: '10.0.0.5', port: 50003 }
const SERVER: Endpoint = { address: '192.0.2.7', port: 21 }
export const EXTERNAL = '203.0.113.1'

export interface ScriptOptions {
  /** Which side is behind the NAT; with 'none' nothing is translated. Default: the client. */
  readonly inside?: 'client' | 'server' | 'none'
  /** Which external port the NAT takes for a port inside. Default: the same (port preservation). */
  readonly externalPort?: (port: number) => number
  /** The NAT has no external port left, so expect() of the inside is refused. */
  readonly exhausted?: boolean
  /** Whether packets have been seen both ways. Default: true. */
  readonly established?: boolean
  /** Default: 50003. */
  readonly clientPort?: number
}

export interface Expectation {
  readonly from: 'client' | 'server' | 'anyone'
  readonly protocol: string
  /** The endpoint as its sender named it. */
  readonly to: string
  /** The endpoint as the peer is told it, and reaches it. */
  readonly told: string
}

/** A span that was rewritten. */
export interface Edit {
  readonly direction: Direction
  readonly was: string
  readonly is: string
}

/** What has come of a dialogue, played by a Script or, in natloom's own tests, by a real gateway. */
export interface Played {
  readonly edits: readonly Edit[]
  /** The most bytes that were held at a time. */
  readonly mostHeld: number
  /** All that was ever expected, refused announcements left out. */
  readonly everExpected: readonly Expectation[]
  /** The address that the sender of this direction has for itself. */
  ownAddress(direction: Direction): string
  /** All bytes that were sent in this direction. */
  sent(direction: Direction): string
  /** All bytes that have arrived at the other side. */
  received(direction: Direction): string
  /** Bytes that were sent and have not gone on, because the helper waits for more. */
  held(direction: Direction): string
}

interface Side {
  held: string
  midLine: boolean
  sent: string
  received: string
}

type Open = Expectation & { readonly handle: number; readonly class: number; readonly active: boolean }

export class Script implements Played {
  readonly edits: Edit[] = []
  mostHeld = 0
  isDone = false
  established: boolean
  readonly #helper: Helper
  readonly #state: unknown
  readonly #options: ScriptOptions
  readonly #sides: Record<Direction, Side> = { original: side(), reply: side() }
  readonly #original: Tuple
  readonly #translated: Tuple
  #open: Open[] = []
  #handles = 0
  #everExpected: Expectation[] = []

  constructor(helper: Helper, options: ScriptOptions = {}) {
    this.#helper = helper
    this.#options = options
    this.established = options.established ?? true
    this.#state = helper.state?.()
    const inside = options.inside ?? 'client'
    const client = { ...CLIENT, port: options.clientPort ?? CLIENT.port }
    const protocol = helper.tuple.proto
    const port = helper.tuple.dstPort ?? SERVER.port
    const server = { address: SERVER.address, port }
    this.#original =
      inside === 'server'
        ? { protocol, src: { ...client, address: '198.51.100.9' }, dst: { address: EXTERNAL, port } }
        : { protocol, src: client, dst: server }
    this.#translated =
      inside === 'none'
        ? this.#original
        : inside === 'client'
          ? { protocol, src: { address: EXTERNAL, port: this.#external(client.port) }, dst: server }
          : { protocol, src: this.#original.src, dst: { address: '10.0.0.5', port } }
  }

  ownAddress(direction: Direction): string {
    return direction === 'original' ? this.#original.src.address : this.#translated.dst.address
  }

  /** The client sends `bytes`, the last ones if `ended`; returns what the server receives thereby. */
  client(bytes: string, ended = false): string {
    return this.#send('original', bytes, ended)
  }

  /** The server sends `bytes`; returns what the client receives thereby. */
  server(bytes: string, ended = false): string {
    return this.#send('reply', bytes, ended)
  }

  say(direction: Direction, bytes: string): string {
    return this.#send(direction, bytes, false)
  }

  held(direction: Direction): string {
    return this.#sides[direction].held
  }

  sent(direction: Direction): string {
    return this.#sides[direction].sent
  }

  received(direction: Direction): string {
    return this.#sides[direction].received
  }

  /** Expectations that are open and would let a connection in, oldest first; so none that is inactive. */
  get expected(): Expectation[] {
    return this.#open
      .filter(({ active }) => active)
      .map(({ from, protocol, to, told }) => ({ from, protocol, to, told }))
  }

  get everExpected(): readonly Expectation[] {
    return this.#everExpected
  }

  #external(port: number): number {
    return this.#options.externalPort?.(port) ?? port
  }

  #send(direction: Direction, bytes: string, ended: boolean): string {
    const own = this.#sides[direction]
    const text = own.held + bytes
    if (this.isDone) {
      own.sent += bytes
      own.received += bytes
      return bytes
    }
    const call = new Call(text, own.midLine, ended)
    if (this.#helper.help(this.#context(direction, call)) === Verdict.Drop) {
      // As if nothing had been sent: of a stream, the sender will send it again.
      this.#open = this.#open.filter(({ handle }) => !call.made.includes(handle))
      return ''
    }
    own.sent += bytes
    const accepted = call.heldFrom >= 0 && !call.isDone ? text.slice(0, call.heldFrom) : text
    own.held = text.slice(accepted.length)
    if (accepted !== '') own.midLine = !accepted.endsWith('\n')
    this.mostHeld = Math.max(this.mostHeld, own.held.length)
    if (call.isDone) this.#end()
    const gone = this.#rewritten(direction, accepted, call)
    own.received += gone
    return gone
  }

  /** The helper is done with the connection: what either direction holds goes on as it is. */
  #end(): void {
    this.isDone = true
    for (const each of Object.values(this.#sides)) {
      each.received += each.held
      each.held = ''
    }
  }

  #rewritten(direction: Direction, text: string, { mangled }: Call): string {
    let gone = ''
    let at = 0
    for (const { at: from, length, replacement } of mangled) {
      if (from + length > text.length)
        throw new Error('the helper has rewritten bytes that it holds: nothing may go on half rewritten')
      this.edits.push({ direction, was: text.slice(from, from + length), is: replacement })
      gone += text.slice(at, from) + replacement
      at = from + length
    }
    return gone + text.slice(at)
  }

  #context(direction: Direction, call: Call): HelperContext {
    const reply = direction === 'reply'
    const turned = ({ protocol, src, dst }: Tuple): Tuple => ({ protocol, src: dst, dst: src })
    const inside = this.#options.inside ?? 'client'
    const isFromInside = inside === (reply ? 'server' : 'client')
    return {
      direction,
      info: reply ? 'established-reply' : this.established ? 'established' : 'new',
      hook: isFromInside ? 'postrouting' : 'prerouting',
      established: this.established,
      tuple: reply ? turned(this.#translated) : this.#original,
      translated: reply ? turned(this.#original) : this.#translated,
      state: this.#state,
      text: call.text,
      ended: call.ended,
      lines: (couldBecome) => call.lines(couldBecome),
      hold: (at) => call.hold(at),
      done: () => {
        call.isDone = true
      },
      expect: (announcement) => {
        const announced = this.#expect(direction, isFromInside, announcement)
        if (announced) call.made.push(announced.handle)
        return announced
      },
      unexpect: (handle) => {
        this.#open = this.#open.filter((each) => each.handle !== handle)
      },
      activate: (handle, active) => {
        this.#open = this.#open.map((each) => (each.handle === handle ? { ...each, active } : each))
      },
      mangle: (at, length, replacement) => call.mangle(at, length, replacement),
    }
  }

  #expect(direction: Direction, isFromInside: boolean, announcement: Announcement): Announced | undefined {
    const { port, address, from = 'peer', protocol = this.#helper.tuple.proto } = announcement
    const own = direction === 'original' ? this.#original.src.address : this.#translated.dst.address
    if (!this.established || !Number.isInteger(port) || port < 1 || port > 65535) return undefined
    if (isFromInside && (address !== undefined || this.#options.exhausted)) return undefined
    const told = isFromInside ? { address: EXTERNAL, port: this.#external(port) } : { address: address ?? own, port }
    const expectation: Expectation = {
      from: from === 'anyone' ? 'anyone' : direction === 'original' ? 'server' : 'client',
      protocol,
      to: `${address ?? own}:${port}`,
      told: `${told.address}:${told.port}`,
    }
    this.#everExpected.push(expectation)
    return { ...told, handle: this.#add(expectation, announcement) }
  }

  /**
   * Opens an expectation and returns its handle. An open one of the same endpoint and class is replaced; where the
   * class is full, its oldest one goes.
   */
  #add(expectation: Expectation, { class: kind = 0, inactive = false }: Announcement): number {
    this.#open = this.#open.filter((each) => each.to !== expectation.to || each.class !== kind)
    const most = this.#helper.classes?.[kind]?.maxExpected ?? this.#helper.maxExpected ?? 1
    const peers = this.#open.filter((each) => each.class === kind)
    if (peers.length >= most) this.#open = this.#open.filter((each) => each !== peers[0])
    this.#open.push({ ...expectation, class: kind, active: !inactive, handle: ++this.#handles })
    return this.#handles
  }
}

const side = (): Side => ({ held: '', midLine: false, sent: '', received: '' })

/** One call of help(): what it is given, and what it asks for. */
class Call {
  readonly text: string
  readonly ended: boolean
  readonly mangled: { at: number; length: number; replacement: string }[] = []
  /** The handles of what it has expected. */
  readonly made: number[] = []
  heldFrom = -1
  isDone = false
  readonly #midLine: boolean

  constructor(text: string, midLine: boolean, ended: boolean) {
    this.text = text
    this.#midLine = midLine
    this.ended = ended
  }

  *lines(couldBecome: (partial: string) => boolean): Generator<Line> {
    let at = this.#midLine ? this.text.indexOf('\n') + 1 : 0
    if (this.#midLine && at === 0) return
    for (let end = this.text.indexOf('\n', at); end >= 0; end = this.text.indexOf('\n', at)) {
      yield { at, text: this.text.slice(at, end).replace(/\r$/, '') }
      if (this.isDone) return
      at = end + 1
    }
    if (at < this.text.length && couldBecome(this.text.slice(at))) this.hold(at)
  }

  hold(at: number): void {
    if (!this.ended && at >= 0 && at < this.text.length) this.heldFrom = at
  }

  mangle(at: number, length: number, replacement: string): boolean {
    const last = this.mangled.at(-1)
    if (at < (last ? last.at + last.length : 0) || length < 1 || at + length > this.text.length) return false
    this.mangled.push({ at, length, replacement })
    return true
  }
}
