// One flood against one gateway, in a network of its own. First the same packets go to a closed port of the gateway's
// host, which is the control: the machine has the same to send and to receive, and nothing is translated. Then the
// flood. Both times other hosts' flows go on at a fixed rate and new connections of theirs begin.

import { setTimeout as delay } from 'node:timers/promises'
import { Processes } from '../../src/lab/world/processes.ts'
import { SERVER, Topology } from '../../src/lab/world/topology.ts'
import type { FloodName } from '../../test/attack/floods.ts'
import { type Attacked, AttackedNatloom, type Left, startAttackedKernel } from './gateway.ts'
import {
  FLOW_PORT,
  flowsArrived,
  flowsReturned,
  type Hosts,
  NEWCOMERS_PORT,
  NEWCOMERS_SERVER,
  PLACES,
  startHosts,
} from './hosts.ts'
import type { NewcomersMet } from './newcomers.ts'

export interface CellOptions {
  readonly flood: FloodName
  /** Shards of natloom; 0: the kernel. */
  readonly shards: number
  readonly rows: number
  readonly expectations: number
  /** So many times as many packets as there are rows. */
  readonly times: number
  readonly rate: number
  readonly flowRate: number
}

/** What others got while packets of one kind came. */
export interface Spell {
  /** Flood packets sent, and in how many seconds. */
  readonly sent: number
  readonly seconds: number
  /** Packets of flows a second: offered, arrived outside, and those that came back inside. */
  readonly offered: number
  readonly arrived: number
  readonly returned: number
  readonly newcomers: NewcomersMet
}

export interface Cell {
  readonly flood: FloodName
  readonly gateway: string
  readonly control: Spell
  readonly attack: Spell
  readonly restarts: number | undefined
  readonly memory: ReturnType<Attacked['memory']>
  /** Resolves with what is still there when it should be over; the network is gone then. */
  readonly over: Promise<{ readonly left: Left; readonly wrong: readonly string[] }>
}

const FLOWS = 16
const NEWCOMER_EVERY_MS = 10
/** UDP is assured after two seconds of both ways (conntrack/datagrams.shard.ts). */
const ASSURED_AFTER_MS = 3000
const ANSWERED_WITHIN_MS = 300
/** After the control's last packet. */
const CALM_MS = 500

export async function takeCell(family: string, options: CellOptions): Promise<Cell> {
  const topology = Topology.create(family)
  const processes = new Processes()
  const remove = () => topology.remove()
  process.once('exit', remove)
  const end = async (): Promise<void> => {
    await processes.end()
    remove()
    process.off('exit', remove)
  }
  try {
    const hosts = await startHosts(topology, processes)
    const gateway = await startGateway(topology, processes, options)
    topology.lan.exec('ping', '-c', '1', '-W', '5', SERVER)
    await beginFlows(hosts, options)
    const control = await spell(topology, hosts, options, true)
    await delay(CALM_MS)
    const attack = await spell(topology, hosts, options, false)
    const [restarts, memory] = [gateway.restarts(), gateway.memory()]
    await hosts.inside.ask('endFlows')
    const over = (async () => {
      try {
        return { left: await gateway.allOver(), wrong: await gateway.stop() }
      } finally {
        await end()
      }
    })()
    over.catch(() => {})
    return { flood: options.flood, gateway: gateway.name, control, attack, restarts, memory, over }
  } catch (error) {
    await end()
    throw error
  }
}

async function startGateway(topology: Topology, processes: Processes, options: CellOptions): Promise<Attacked> {
  if (options.shards === 0) return startAttackedKernel(topology)
  const natloom = new AttackedNatloom(topology, processes, { ...options, workers: options.shards })
  await natloom.forwarding()
  return natloom
}

async function beginFlows({ inside, insideLink: link }: Hosts, { flowRate: rate }: CellOptions): Promise<void> {
  await inside.ask('prepareFlows', { flows: FLOWS, rate, server: SERVER, port: FLOW_PORT, link })
  await inside.ask('beginFlows', rate)
  await delay(ASSURED_AFTER_MS)
}

async function spell(topology: Topology, hosts: Hosts, options: CellOptions, isControl: boolean): Promise<Spell> {
  const { flood: name, rows, times, rate } = options
  const { inside, outside, newcomers, insideLink, outsideLink } = hosts
  const plan = { name, packets: rows * times, rate, isControl, places: PLACES }
  const [steps] = await Promise.all([
    inside.ask('prepareFlood', { ...plan, side: 'inside', link: insideLink }),
    outside.ask('prepareFlood', { ...plan, side: 'outside', link: outsideLink }),
  ])
  for (let step = 0; step < steps; step++) {
    await inside.ask('open', step)
    await delay(ANSWERED_WITHIN_MS)
  }
  await newcomers.ask('begin', { host: NEWCOMERS_SERVER, port: NEWCOMERS_PORT, everyMs: NEWCOMER_EVERY_MS })
  const look = async () => ({
    at: performance.now(),
    offered: await inside.ask('flowPackets'),
    arrived: flowsArrived(topology),
    returned: flowsReturned(topology),
  })
  const before = await look()
  const sent = await Promise.all([inside.ask('flood'), outside.ask('flood')])
  const after = await look()
  const met = await newcomers.ask('end')
  const seconds = (after.at - before.at) / 1000
  const aSecond = (what: 'offered' | 'arrived' | 'returned') => Math.round((after[what] - before[what]) / seconds)
  return {
    sent: sent.reduce((sum, { packets }) => sum + packets, 0),
    seconds: Math.max(...sent.map(({ seconds: each }) => each)),
    offered: aSecond('offered'),
    arrived: aSecond('arrived'),
    returned: aSecond('returned'),
    newcomers: met,
  }
}
