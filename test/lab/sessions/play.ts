// Plays scripted sessions through a gateway, one after the other, and notes what each side receives and what the
// gateway expects after each write.
//
//   write -> mark on the same path, received by the other side -> expectations read -> next write
//
// A gateway may hold a part of a line until more has come, or at the latest until its sender has closed. So the ends of
// all sessions are awaited together. Sessions that a gateway is known to stall get some seconds when all others have
// ended; another one that doesn't end has stalled, too, and is given up after the tests' own patience.

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
  /** The port that was announced, if the gateway tells it. */
  readonly announced?: number
  /** The port of the master's client. */
  readonly masterPort: number
}

export interface Stage {
  readonly lan: Remote<ScriptedPeerRequests>
  readonly outside: Remote<ScriptedPeerRequests>
  expectations(): Promise<readonly Expectation[]>
  /** Called when another session begins. */
  forget?(): void
  /** Whether this gateway stalls the session of this name. */
  stalls?(name: string): boolean
}

/** What came of a session. In all texts an external port is replaced by the announced port that it stands for. */
export interface Played {
  readonly toServer: string
  readonly toClient: string
  /** By write: the expectations that were open after it. */
  readonly expected: readonly string[]
  /** Whether something that was sent did not arrive, though the connection stood. */
  readonly stalled: boolean
  /** Whether the gateway has reset the connection. */
  readonly reset: boolean
}

const SERVER = '203.0.113.2'
const GATEWAY = '203.0.113.1'
/** The ports that marks come from and go to. */
const MARKS = { lan: 19_000, outside: 19_001 }
/** Each client has a port that none had before, because a connection that stalled is still being closed. */
let clientPorts = 20_000
const FIRST_ANNOUNCED_PORT = 42_000

/** Enough time for a sender to repeat several times what the gateway drops each time. */
const STALLED_MS = 4000

let marks = 0

type Hosts = Pick<Stage, 'lan' | 'outside'>

/** Makes the services listen; called once. */
export async function prepare({ lan, outside }: Hosts): Promise<void> {
  for (const port of [SERVICE_PORTS.ftp, SERVICE_PORTS.irc])
    await Promise.all([lan.ask('listen', port), outside.ask('listen', port)])
  await lan.ask('bindMarks', MARKS.lan, { address: SERVER, port: MARKS.outside })
  await outside.ask('bindMarks', MARKS.outside)
  await outside.ask('bind', SERVERS_SOCKET, SERVICE_PORTS.tftp)
}

/** Sends marks in both directions; called once for each gateway. */
export async function meet({ lan, outside }: Hosts): Promise<void> {
  await pass(lan, outside)
  await pass(outside, lan)
}

/** Resolves when all that `from` has sent so far has gone through the gateway, and `to` has read it. */
async function pass(from: Remote<ScriptedPeerRequests>, to: Remote<ScriptedPeerRequests>): Promise<void> {
  const number = ++marks
  await from.ask('mark', number)
  await to.ask('marked', number)
}

/** Plays all sessions, and waits for their ends. The results are by the sessions' names. */
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

/** Resolves when both sides have seen the other one close, or after this time. */
type EndOfSession = (patienceMs: number) => Promise<Played>

/** Sends all that the session has to send; resolves with the function that waits for its end. */
async function play(stage: Stage, session: Session, number: number): Promise<EndOfSession> {
  const clientPort = ++clientPorts
  const first = FIRST_ANNOUNCED_PORT + number * PORTS_OF_ONE
  const { lan, outside } = stage
  const sides = session.serverInside ? { client: outside, server: lan } : { client: lan, server: outside }
  const channel = session.service === 'tftp' ? new Datagrams(sides, clientPort) : new Connection(sides, number)
  stage.forget?.()
  await channel.open(session.serverInside ? GATEWAY : SERVER, SERVICE_PORTS[session.service], clientPort)
  const told = new Map<number, number>()
  const expected: string[] = []
  for (const [who, ...segments] of session.script) {
    await channel.say(
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
  await channel.said()
  return async (patienceMs) => {
    const { toServer, toClient, ...how } = await channel.end(patienceMs)
    return { toServer: asAnnounced(toServer, told), toClient: asAnnounced(toClient, told), expected, ...how }
  }
}

const lineOf = ({ protocol, src, dst, dport, announced = dport }: Expectation, clientPort: number): string =>
  `${protocol} ${src} to ${dst}:${announced === clientPort ? "the client's port" : announced}`

/** Replaces external ports in either notation: two octets, or a number between delimiters. */
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
  readonly reset: boolean
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
    const ends = [toServer!.end, toClient!.end]
    const [stalled, reset] = [ends.includes(null), ends.includes('reset')]
    return { toServer: toServer!.text, toClient: toClient!.text, stalled, reset }
  }
}

/** All clients of datagrams send to one socket of the server. */
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

  /** Reads now what has come, because later sessions will use the same socket of the server. */
  async said(): Promise<void> {
    const { client, server } = this.#sides
    const toServer = (await server.ask('heard', SERVERS_SOCKET)).slice(this.#before)
    this.#heard = { toServer, toClient: await client.ask('heard', this.#id), stalled: false, reset: false }
    await client.ask('forget', this.#id)
  }

  async end(): Promise<Heard> {
    return this.#heard!
  }
}
