// A helper without a gateway: what a client and a server send each other, in any pieces, and what the other one
// receives. A stand-in for the helper context (src/helpers/context.shard.ts) in thirty lines of rules: streams that hold what
// the helper asks for, expectations as they would stand, spans rewritten as asked. What a real context refuses is refused.

import type {
  Announced,
  Announcement,
  Direction,
  Endpoint,
  Helper,
  HelperContext,
  Line,
  Tuple,
} from '../helpers/helper.ts'

export const CLIENT: Endpoint = { address: '10.0.0.5', port: 50003 }
const SERVER: Endpoint = { address: '192.0.2.7', port: 21 }
export const EXTERNAL = '203.0.113.1'

export interface ScriptOptions {
  /** Who is behind the NAT; 'none': nobody is translated. Default: the client. */
  readonly inside?: 'client' | 'server' | 'none'
  /** The external port that stands for a port inside. Default: the same (port preservation). */
  readonly externalPort?: (port: number) => number
  /** No external port is to be had. */
  readonly exhausted?: boolean
  readonly established?: boolean
  /** Default: 50003. */
  readonly clientPort?: number
}

export interface Expectation {
  readonly from: 'client' | 'server' | 'anyone'
  readonly protocol: string
  /** As the sender named it. */
  readonly to: string
  /** As its peer reaches it. */
  readonly told: string
}

/** A span that was rewritten. */
export interface Edit {
  readonly direction: Direction
  readonly was: string
  readonly is: string
}

/** What has come of a dialogue: by a script, or by a gateway (gateway-script.ts). */
export interface Played {
  readonly edits: readonly Edit[]
  readonly mostHeld: number
  readonly everExpected: readonly Expectation[]
  ownAddress(direction: Direction): string
  sent(direction: Direction): string
  received(direction: Direction): string
  held(direction: Direction): string
}

interface Side {
  held: string
  midLine: boolean
  sent: string
  received: string
}

type Standing = Expectation & { readonly handle: number; readonly class: number }

export class Script implements Played {
  readonly edits: Edit[] = []
  /** The most bytes that were held at a time. */
  mostHeld = 0
  isDone = false
  established: boolean
  readonly #helper: Helper
  readonly #state: unknown
  readonly #options: ScriptOptions
  readonly #sides: Record<Direction, Side> = { original: side(), reply: side() }
  readonly #original: Tuple
  readonly #translated: Tuple
  #standing: Standing[] = []
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

  /** The address that a side has for itself. */
  ownAddress(direction: Direction): string {
    return direction === 'original' ? this.#original.src.address : this.#translated.dst.address
  }

  /** Sends; what reaches the server by it. */
  client(bytes: string, ended = false): string {
    return this.#send('original', bytes, ended)
  }

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

  /** What stands expected, oldest first. */
  get expected(): Expectation[] {
    return this.#standing.map(({ from, protocol, to, told }) => ({ from, protocol, to, told }))
  }

  /** All that was ever expected, refused ones left out. */
  get everExpected(): readonly Expectation[] {
    return this.#everExpected
  }

  #external(port: number): number {
    return this.#options.externalPort?.(port) ?? port
  }

  #send(direction: Direction, bytes: string, ended: boolean): string {
    const own = this.#sides[direction]
    own.sent += bytes
    const text = own.held + bytes
    if (this.isDone) {
      own.received += bytes
      return bytes
    }
    const call = new Call(text, own.midLine, ended)
    this.#helper.help(this.#context(direction, call))
    const accepted = call.heldFrom >= 0 && !call.isDone ? text.slice(0, call.heldFrom) : text
    own.held = text.slice(accepted.length)
    if (accepted !== '') own.midLine = !accepted.endsWith('\n')
    this.mostHeld = Math.max(this.mostHeld, own.held.length)
    if (call.isDone) this.#end()
    const gone = this.#rewritten(direction, accepted, call)
    own.received += gone
    return gone
  }

  /** What the other direction holds goes on as well. */
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
      if (from + length > text.length) throw new Error('rewritten, and held: nothing may go on half rewritten')
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
      expect: (announcement) => this.#expect(direction, isFromInside, announcement),
      unexpect: (handle) => {
        this.#standing = this.#standing.filter((each) => each.handle !== handle)
      },
      activate: () => {},
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
    return { ...told, handle: this.#stand(expectation, announcement.class ?? 0) }
  }

  /** The same one once more waits anew; one more than there may be makes the oldest go. Its handle. */
  #stand(expectation: Expectation, kind: number): number {
    this.#standing = this.#standing.filter((each) => each.to !== expectation.to || each.class !== kind)
    const most = this.#helper.classes?.[kind]?.maxExpected ?? this.#helper.maxExpected ?? 1
    const peers = this.#standing.filter((each) => each.class === kind)
    if (peers.length >= most) this.#standing = this.#standing.filter((each) => each !== peers[0])
    this.#standing.push({ ...expectation, class: kind, handle: ++this.#handles })
    return this.#handles
  }
}

const side = (): Side => ({ held: '', midLine: false, sent: '', received: '' })

/** One call of help(): what it is given, and what it asks for. */
class Call {
  readonly text: string
  readonly ended: boolean
  readonly mangled: { at: number; length: number; replacement: string }[] = []
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
    if (at < this.text.length && !this.ended && couldBecome(this.text.slice(at))) this.hold(at)
  }

  hold(at: number): void {
    if (at >= 0 && at < this.text.length) this.heldFrom = at
  }

  mangle(at: number, length: number, replacement: string): boolean {
    const last = this.mangled.at(-1)
    if (at < (last ? last.at + last.length : 0) || length < 1 || at + length > this.text.length) return false
    this.mangled.push({ at, length, replacement })
    return true
  }
}
