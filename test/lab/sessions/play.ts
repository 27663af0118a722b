// Plays scripted sessions through a gateway, one after the other, and notes what each side hears and what the gateway
// expects after each write.
//
//   write -> mark on the same path, heard by the other side -> expectations read -> next write
//
// A gateway may hold a part of a line back; it comes with what follows, or at the latest when its sender has closed.
// All sessions are waited for at once. Those that a gateway is known to stall are given some seconds, when all others
// have ended; whatever else does not end has stalled too, and is given up only when no test would wait any longer.

import type { ScriptedPeerRequests } from '../../../src/lab/traffic/scripted-peer.ts'
import type { Remote } from '../../../src/lab/world/remote.ts'
import { PATIENCE_MS } from '../../patience.ts'
import { filled, PORTS_OF_ONE, SERVICE_PORTS, type Session, type Who } from './session.ts'

/** What a gateway expects, as its packets would arrive. */
export interface Expectation {
  readonly protocol: 'tcp' | 'udp'
  /** '*' is anyone. */
  readonly src: string
  readonly dst: string
  readonly dport: number
  /** The port that was announced, if the gateway tells. */
  readonly announced?: number
  /** Of the master's client. */
  readonly masterPort: number
}

export interface Stage {
  readonly lan: Remote<ScriptedPeerRequests>
  readonly outside: Remote<ScriptedPeerRequests>
  expectations(): Promise<readonly Expectation[]>
  /** Another session begins. */
  forget?(): void
  /** Whether this gateway stalls the session of this name. */
  stalls?(name: string): boolean
}

/** Texts, in which each external port that was chosen for an announced one stands as that one. */
export interface Played {
  readonly toServer: string
  readonly toClient: string
  /** A line a write: what stood expected after it. */
  readonly expected: readonly string[]
  /** Not all that was said has come. */
  readonly stalled: boolean
}

const SERVER = '203.0.113.2'
const GATEWAY = '203.0.113.1'
/** Where marks come from and go to. */
const MARKS = { lan: 19_000, outside: 19_001 }
/** Clients have ports of their own in each run: connections that stalled go on being closed. */
let clientPorts = 20_000
const FIRST_ANNOUNCED_PORT = 42_000

/** Enough for several tries of what the gateway drops as often as it is sent again. */
const STALLED_MS = 4000

let marks = 0

type Hosts = Pick<Stage, 'lan' | 'outside'>

/** Once: services listen. */
export async function prepare({ lan, outside }: Hosts): Promise<void> {
  for (const port of [SERVICE_PORTS.ftp, SERVICE_PORTS.irc])
    await Promise.all([lan.ask('listen', port), outside.ask('listen', port)])
  await lan.ask('bindMarks', MARKS.lan, { address: SERVER, port: MARKS.outside })
  await outside.ask('bindMarks', MARKS.outside)
  await outside.ask('bind', SERVERS_SOCKET, SERVICE_PORTS.tftp)
}

/** With every gateway: marks go both ways. */
export async function meet({ lan, outside }: Hosts): Promise<void> {
  await pass(lan, outside)
  await pass(outside, lan)
}

/** All that `from` has sent before has gone through the gateway, and has been read by `to`. */
async function pass(from: Remote<ScriptedPeerRequests>, to: Remote<ScriptedPeerRequests>): Promise<void> {
  const number = ++marks
  await from.ask('mark', number)
  await to.ask('marked', number)
}

/** Plays them all, and waits for what is still under way then. By their names. */
export async function playAll(stage: Stage, sessions: readonly Session[]): Promise<ReadonlyMap<string, Played>> {
  const ends = new Map<string, EndOfSession>()
  for (const [number, session] of sessions.entries()) ends.set(session.name, await play(stage, session, number))
  const stalls = (name: string): boolean => stage.stalls?.(name) ?? false
  const names = sessions.map(({ name }) => name)
  const played = new Map<string, Played>()
  const end = (some: readonly string[], patienceMs: number) =>
    Promise.all(some.map(async (name) => played.set(name, await ends.get(name)!(patienceMs))))
  await end(
    names.filter((name) => !stalls(name)),
    PATIENCE_MS,
  )
  await end(names.filter(stalls), STALLED_MS)
  return played
}

/** Resolves when both sides have heard the other end, or when patience is over. */
type EndOfSession = (patienceMs: number) => Promise<Played>

/** Resolves when all is said; what comes then, when all has come that will. */
async function play(stage: Stage, session: Session, number: number): Promise<EndOfSession> {
  const clientPort = ++clientPorts
  const first = FIRST_ANNOUNCED_PORT + number * PORTS_OF_ONE
  const { lan, outside } = stage
  const sides = session.serverInside ? { client: outside, server: lan } : { client: lan, server: outside }
  const talk = session.service === 'tftp' ? new Datagrams(sides, clientPort) : new Connection(sides, number)
  stage.forget?.()
  await talk.open(session.serverInside ? GATEWAY : SERVER, SERVICE_PORTS[session.service], clientPort)
  const told = new Map<number, number>()
  const expected: string[] = []
  for (const [who, ...segments] of session.talk) {
    await talk.say(
      who,
      segments.map((text) => filled(text, first)),
    )
    await pass(sides[who], sides[who === 'client' ? 'server' : 'client'])
    const mine = (await stage.expectations()).filter(({ masterPort }) => masterPort === clientPort)
    for (const { dport, announced = dport } of mine) if (dport !== announced) told.set(dport, announced)
    expected.push(
      mine
        .map((one) => lineOf(one, clientPort))
        .sort()
        .join(', '),
    )
  }
  await talk.said()
  return async (patienceMs) => {
    const { toServer, toClient, stalled } = await talk.end(patienceMs)
    return { toServer: asAnnounced(toServer, told), toClient: asAnnounced(toClient, told), expected, stalled }
  }
}

const lineOf = ({ protocol, src, dst, dport, announced = dport }: Expectation, clientPort: number): string =>
  `${protocol} ${src} to ${dst}:${announced === clientPort ? "the client's port" : announced}`

/** Each way of writing a port that is used here: two octets, a number between delimiters. */
function asAnnounced(text: string, told: ReadonlyMap<number, number>): string {
  let plain = text
  for (const [external, announced] of told) {
    plain = plain.replaceAll(`,${external >> 8},${external & 0xff}`, `,${announced >> 8},${announced & 0xff}`)
    plain = plain.replaceAll(new RegExp(`(?<=[^\\d])${external}(?=[^\\d])`, 'g'), String(announced))
  }
  return plain
}

interface Heard {
  readonly toServer: string
  readonly toClient: string
  readonly stalled: boolean
}

type Sides = Readonly<Record<Who, Remote<ScriptedPeerRequests>>>

class Connection {
  readonly #sides: Sides
  readonly #id: number

  constructor(sides: Sides, id: number) {
    this.#sides = sides
    this.#id = id
  }

  async open(address: string, port: number, localPort: number): Promise<void> {
    const { client, server } = this.#sides
    await Promise.all([
      server.ask('accept', this.#id),
      client.ask('connect', this.#id, { address, port }, { port: localPort }),
    ])
  }

  say(who: Who, segments: readonly string[]): Promise<void> {
    return this.#sides[who].ask('say', this.#id, ...segments)
  }

  async said(): Promise<void> {}

  async end(patienceMs: number): Promise<Heard> {
    const { client, server } = this.#sides
    for (const side of [client, server]) await side.ask('end', this.#id)
    const [toServer, toClient] = await Promise.all(
      [server, client].map((side) => side.ask('ended', this.#id, patienceMs)),
    )
    for (const side of [client, server]) await side.ask('forget', this.#id)
    const stalled = !toServer!.whole || !toClient!.whole
    return { toServer: toServer!.text, toClient: toClient!.text, stalled }
  }
}

/** All clients of datagrams talk to one socket of the server. */
const SERVERS_SOCKET = -1

class Datagrams {
  readonly #sides: Sides
  readonly #id: number
  #to: { readonly address: string; readonly port: number } | undefined
  #before = 0
  #heard: Heard | undefined

  constructor(sides: Sides, id: number) {
    this.#sides = sides
    this.#id = id
  }

  async open(address: string, port: number, localPort: number): Promise<void> {
    this.#to = { address, port }
    this.#before = (await this.#sides.server.ask('heard', SERVERS_SOCKET)).length
    await this.#sides.client.ask('bind', this.#id, localPort)
  }

  async say(who: Who, datagrams: readonly string[]): Promise<void> {
    const { client, server } = this.#sides
    for (const text of datagrams)
      if (who === 'server') await server.ask('send', SERVERS_SOCKET, text)
      else await client.ask('send', this.#id, text, this.#to)
  }

  /** Others will use the server's socket. */
  async said(): Promise<void> {
    const { client, server } = this.#sides
    const toServer = (await server.ask('heard', SERVERS_SOCKET)).slice(this.#before)
    this.#heard = { toServer, toClient: await client.ask('heard', this.#id), stalled: false }
    await client.ask('forget', this.#id)
  }

  async end(): Promise<Heard> {
    return this.#heard!
  }
}
