// The end hosts of an attack, which are the lab's: which programs run there, what of the traffic their own kernels get,
// and what is counted. Flows go to one UDP port outside. All of their packets are counted by nft as they come, and one
// in some gets to a program that returns it, so that the flows are two-way and cost the machine as little as possible.

import { once } from 'node:events'
import type { Namespace } from '../../src/lab/world/namespace.ts'
import { run } from '../../src/lab/world/namespace.ts'
import { PATIENCE_MS } from '../../src/lab/world/patience.ts'
import type { Processes } from '../../src/lab/world/processes.ts'
import { Remote } from '../../src/lab/world/remote.ts'
import {
  GATEWAY_INSIDE,
  GATEWAY_OUTSIDE,
  HOST_INTERFACE,
  INSIDE_HOSTS,
  INSIDE_INTERFACE,
  OUTSIDE_INTERFACE,
  REMOTE,
  SERVER,
  type Topology,
} from '../../src/lab/world/topology.ts'
import {
  FORGED_INSIDE,
  FORWARDED_TCP,
  FORWARDED_UDP,
  FTP,
  type Places,
  SILENT_NEIGHBOURS,
} from '../../test/attack/floods.ts'
import type { Echo } from '../wire/echo.ts'
import type { Answerer } from './answerer.ts'
import type { NewcomersRequests } from './newcomers.ts'
import type { NewcomersServer } from './newcomers-server.ts'
import { FLOW_HOSTS, type Link, type SenderRequests } from './sender.ts'

export const FLOW_PORT = 9000
export const NEWCOMERS_PORT = 443
const ATTACKER = INSIDE_HOSTS[3]!
/** Behind the port forwards. */
export const INSIDE_SERVER = INSIDE_HOSTS.at(-1)!
/** One packet in so many is returned: no multiple of the number of flows, so that each flow gets some. */
const RETURNED_ONE_IN = 61
const TABLE = 'attack'

export const PLACES: Places = {
  attacker: ATTACKER,
  server: SERVER,
  gatewayInside: GATEWAY_INSIDE,
  gatewayOutside: GATEWAY_OUTSIDE,
}

/** The end hosts' programs. */
export interface Hosts {
  readonly inside: Remote<SenderRequests>
  readonly outside: Remote<SenderRequests>
  readonly newcomers: Remote<NewcomersRequests>
  /** Ethernet addresses of what each sends. */
  readonly insideLink: Link
  readonly outsideLink: Link
}

const nft = (host: Namespace, rules: readonly string[]): string =>
  run('ip', ['netns', 'exec', host.name, 'nft', '-f', '-'], rules.join('\n'))

/** Whom the floods by helped connections go to: there FTP's port is answered by a rule, for lack of other sockets. */
export type FloodedServer = typeof SERVER | typeof REMOTE

/** Whom the floods are by and against has no kernel: its answers would end what a flood has begun. */
function prepareKernels({ lan, gateway, outside }: Topology, flooded: FloodedServer): void {
  nft(lan, [
    `table ip ${TABLE} {`,
    'counter returned { }',
    'chain arriving { type filter hook prerouting priority -500;',
    `udp sport ${FLOW_PORT} ip daddr { ${FLOW_HOSTS.join()} } counter name returned drop`,
    `ip daddr { ${ATTACKER}, ${INSIDE_SERVER} } drop`,
    '}',
    '}',
  ])
  nft(outside, [
    `table ip ${TABLE} {`,
    'counter flows { }',
    'chain arriving { type filter hook prerouting priority -500;',
    `udp dport ${FLOW_PORT} counter name flows`,
    `udp dport ${FLOW_PORT} numgen inc mod ${RETURNED_ONE_IN} != 0 drop`,
    `ip daddr ${flooded} tcp dport ${FTP} drop`,
    '}',
    '}',
  ])
  gateway.ip(`route add ${FORGED_INSIDE.address}/${FORGED_INSIDE.length} dev ${INSIDE_INTERFACE}`)
  gateway.ip(`route add ${SILENT_NEIGHBOURS.address}/${SILENT_NEIGHBOURS.length} dev ${OUTSIDE_INTERFACE}`)
}

const counted = (host: Namespace, name: string): number =>
  Number(/packets (\d+)/.exec(host.exec('nft', 'list', 'counter', 'ip', TABLE, name))![1])
/** Packets of flows that have come to the outside so far. */
export const flowsArrived = ({ outside }: Topology): number => counted(outside, 'flows')
/** Of those, packets that have come back. */
export const flowsReturned = ({ lan }: Topology): number => counted(lan, 'returned')

const macOf = (host: Namespace, name: string): string =>
  (JSON.parse(host.ip(`-j link show ${name}`)) as { address: string }[])[0]!.address

export async function startHosts(
  topology: Topology,
  processes: Processes,
  flooded: FloodedServer = SERVER,
): Promise<Hosts> {
  const { lan, gateway, outside } = topology
  prepareKernels(topology, flooded)
  const start = async (host: Namespace, name: string, argument: unknown): Promise<void> => {
    const program = processes.startModule(host, new URL(name, import.meta.url), argument)
    await once(program.child, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) })
  }
  await Promise.all([
    start(outside, '../wire/echo.js', { port: FLOW_PORT } satisfies Echo),
    start(outside, './newcomers-server.js', { port: NEWCOMERS_PORT } satisfies NewcomersServer),
    start(outside, './answerer.js', { address: flooded, ports: [FTP] } satisfies Answerer),
    start(lan, './answerer.js', { address: INSIDE_SERVER, ports: [FORWARDED_TCP, FORWARDED_UDP] } satisfies Answerer),
  ])
  const sender = new URL('./sender.js', import.meta.url)
  return {
    inside: new Remote<SenderRequests>(lan, processes, sender),
    outside: new Remote<SenderRequests>(outside, processes, sender),
    newcomers: new Remote<NewcomersRequests>(lan, processes, new URL('./newcomers.js', import.meta.url)),
    insideLink: { src: macOf(lan, HOST_INTERFACE), dst: macOf(gateway, INSIDE_INTERFACE) },
    outsideLink: { src: macOf(outside, HOST_INTERFACE), dst: macOf(gateway, OUTSIDE_INTERFACE) },
  }
}

/** Where newcomers go: an address that the gateway reaches by its default route. */
export const NEWCOMERS_SERVER = REMOTE
