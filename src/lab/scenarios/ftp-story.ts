// One active and one passive FTP transfer, step by step: each line as it was sent and as it was received, what the
// gateway expects then, and which shard the data connection comes to. Client and server are the lab's own
// (traffic/scripted-peer.ts), so that they can wait while the gateway is asked. The kernel's gateway can't be asked: of
// its transfers only the lines are told.

import { type Connection, connections, type Expectation, expectations } from '../../control/api-client.ts'
import type { Gateway } from '../gateway/gateway-options.ts'
import type { ScriptedPeerRequests } from '../traffic/scripted-peer.ts'
import { Remote } from '../world/remote.ts'
import { GATEWAY_OUTSIDE, INSIDE_HOSTS } from '../world/topology.ts'
import type { Stage } from './scenario.ts'

/** The server's address. It has one of its own, because at the outside's other addresses FTP's port is taken. */
const SERVER_ADDRESS = '198.51.100.11'
const CLIENT = INSIDE_HOSTS[0] as string
const FTP_PORT = 21
const FTP_DATA_PORT = 20
/** Ports at which client and server listen for data connections. */
const CLIENT_DATA_PORT = 40_000
const SERVER_DATA_PORT = 45_000

// Numbers by which a scripted peer knows its end of each connection.
const CONTROL = 1
const ACTIVE = 2
const PASSIVE = 3

type ScriptedPeer = Remote<ScriptedPeerRequests>
interface Endpoint {
  readonly address: string
  readonly port: number
}

const textOf = ({ address, port }: Endpoint): string => `${address}:${port}`
const line = (what: string, text: string): string => `    ${what.padEnd(14)}${text}`

/** An endpoint in FTP's notation (RFC 959: h1,h2,h3,h4,p1,p2). */
const written = ({ address, port }: Endpoint): string => [...address.split('.'), port >> 8, port & 255].join(',')

function read(said: string): Endpoint {
  const numbers = /(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)/.exec(said)?.slice(1).map(Number)
  if (!numbers) throw new Error(`no endpoint in ${JSON.stringify(said)}`)
  return { address: numbers.slice(0, 4).join('.'), port: (numbers[4] as number) * 256 + (numbers[5] as number) }
}

/** Yields the lines of the story; throws if something does not go as it should. */
export async function* ftpStory({ topology, processes }: Stage, gateway: Gateway): AsyncGenerator<string> {
  topology.outside.exec('ip', 'address', 'add', `${SERVER_ADDRESS}/32`, 'dev', 'lo')
  const module = new URL('../traffic/scripted-peer.js', import.meta.url)
  const client: ScriptedPeer = new Remote(topology.lan, processes, module)
  const server: ScriptedPeer = new Remote(topology.outside, processes, module)
  await server.ask('listen', FTP_PORT, SERVER_ADDRESS)
  await client.ask('listen', CLIENT_DATA_PORT)
  await server.ask('listen', SERVER_DATA_PORT, SERVER_ADDRESS)

  const from = await client.ask('connect', CONTROL, { address: SERVER_ADDRESS, port: FTP_PORT }, { address: CLIENT })
  await server.ask('accept', CONTROL)
  await tell(server, client, '220 ready')
  await tell(client, server, 'USER anonymous')
  await tell(server, client, '230 welcome')

  yield '  An active transfer: the client names an endpoint, and the server connects to it.'
  const own = { address: CLIENT, port: CLIENT_DATA_PORT }
  const active = yield* announced(client, server, 'client', `PORT ${written(own)}`)
  if (active.address !== GATEWAY_OUTSIDE)
    throw new Error(`the server was told ${textOf(active)}, not the gateway's address`)
  yield* expected(gateway, active, own)
  await server.ask('connect', ACTIVE, active, { address: SERVER_ADDRESS, port: FTP_DATA_PORT })
  await client.ask('accept', ACTIVE)
  await transfer(server, client, ACTIVE)
  yield* child(gateway, { address: SERVER_ADDRESS, port: FTP_DATA_PORT }, from)

  yield ''
  yield '  A passive transfer: the server names an endpoint, and the client connects to it.'
  await tell(client, server, 'PASV')
  const theirs = { address: SERVER_ADDRESS, port: SERVER_DATA_PORT }
  const passive = yield* announced(server, client, 'server', `227 Entering Passive Mode (${written(theirs)}).`)
  yield* expected(gateway, passive, theirs)
  const data = await client.ask('connect', PASSIVE, passive, { address: CLIENT })
  await server.ask('accept', PASSIVE)
  await transfer(server, client, PASSIVE)
  yield* child(gateway, data, from)
  yield ''
  for (const each of [client, server]) for (const id of [PASSIVE, ACTIVE, CONTROL]) await each.ask('forget', id)
}

/** Sends a line that the gateway must not change. */
async function tell(speaker: ScriptedPeer, hearer: ScriptedPeer, text: string): Promise<void> {
  await speaker.ask('say', CONTROL, `${text}\r\n`)
  const heard = await hearer.ask('line', CONTROL)
  if (heard !== text) throw new Error(`${text} was heard as ${heard}`)
}

/** Sends an announcement; returns the endpoint that the other side reads in it. */
async function* announced(
  speaker: ScriptedPeer,
  hearer: ScriptedPeer,
  who: 'client' | 'server',
  text: string,
): AsyncGenerator<string, Endpoint> {
  await speaker.ask('say', CONTROL, `${text}\r\n`)
  yield line(`${who} says`, text)
  const heard = await hearer.ask('line', CONTROL)
  yield line(`${who === 'client' ? 'server' : 'client'} hears`, heard)
  return read(heard)
}

/** Tells what the gateway expects: a connection to `to`, which it translates to `as`, the endpoint announced. */
async function* expected({ apiSocket }: Gateway, to: Endpoint, as: Endpoint): AsyncGenerator<string> {
  if (apiSocket === undefined) return
  const all: Expectation[] = []
  for await (const each of expectations(apiSocket)) all.push(each)
  const found = all.find((each) => each.destination === to.address && each.destinationPort === to.port)
  if (!found || textOf(found.announced) !== textOf(as))
    throw new Error(`nothing is expected at ${textOf(to)} for ${textOf(as)}, but ${JSON.stringify(all)}`)
  const { source, sourcePort, owner, helper, master } = found
  const port = sourcePort === 0 ? 'any port' : sourcePort
  yield line(
    'expected',
    `from ${source}, ${port}, to ${textOf(to)} for ${textOf(as)}; by ${helper}, in shard ${master.shard}`,
  )
  yield line('', owner === null ? 'may come to any shard' : `will come to shard ${owner}`)
}

/** Sends a file through the data connection, and checks that it arrives whole. */
async function transfer(speaker: ScriptedPeer, hearer: ScriptedPeer, id: number): Promise<void> {
  const text = 'the file\r\n'
  await speaker.ask('say', id, text)
  await speaker.ask('end', id)
  const heard = await hearer.ask('ended', id)
  if (heard.text !== text || heard.end !== 'closed') throw new Error(`of the file came ${JSON.stringify(heard.text)}`)
}

/** Tells of the data connection that began at `from`, whose master must be the control connection. */
async function* child({ apiSocket }: Gateway, from: Endpoint, control: Endpoint): AsyncGenerator<string> {
  if (apiSocket === undefined) return
  let found: Connection | undefined
  for await (const each of connections(apiSocket))
    if (each.original.source === from.address && each.original.sourcePort === from.port && each.master) found = each
  const master = found?.master
  if (!found || !master?.original) throw new Error(`no connection from ${textOf(from)} has a master`)
  const { shard, original, reply } = found
  if (original.owner !== shard || reply.owner !== shard) throw new Error(`shard ${shard} has what another one owns`)
  const { source, sourcePort, destination, destinationPort } = master.original
  if (source !== control.address || sourcePort !== control.port)
    throw new Error(`its master is ${source}:${sourcePort}, not ${textOf(control)}`)
  const answers = `${reply.source}:${reply.sourcePort}`
  yield line(
    'came',
    `${textOf(from)} to ${original.destination}:${original.destinationPort}, answered by ${answers}; in shard ${shard}`,
  )
  yield line('master', `${source}:${sourcePort} to ${destination}:${destinationPort}, in shard ${master.shard}`)
}
