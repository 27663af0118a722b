// The gateway whose ruleset is flushed: the real `natloom run` between the lab's hosts, with a kernel that forwards by
// itself; and the watch over what that kernel does. Authority: nft(8), proc_net_snmp(5).

import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { InsideFrames, setForwarding } from '../../src/lab/world/inside-frames.ts'
import { PATIENCE_MS } from '../../src/lab/world/patience.ts'
import type { Processes, Program } from '../../src/lab/world/processes.ts'
import { INSIDE_INTERFACE, OUTSIDE_INTERFACE, type Topology } from '../../src/lab/world/topology.ts'

const COMMAND = fileURLToPath(new URL('../../src/control/main.js', import.meta.url))
const LOOK_EVERY_MS = 10

/** What the gateway's kernel did in a time. */
export interface Seen {
  /** Frames with an inside source that came to the outside host. */
  readonly untranslated: number
  /** Packets that it forwarded. */
  readonly forwarded: number
  /** TCP resets and ICMP errors that it sent. */
  readonly answered: number
}

export class Watch {
  readonly #topology: Topology
  readonly #insideFrames: InsideFrames
  #before: Seen = { untranslated: 0, forwarded: 0, answered: 0 }

  constructor(topology: Topology) {
    this.#topology = topology
    setForwarding(topology.gateway, true)
    this.#insideFrames = new InsideFrames(topology.outside)
  }

  begin(): void {
    this.#before = this.#now()
  }

  end(): Seen {
    const [before, now] = [this.#before, this.#now()]
    return {
      untranslated: now.untranslated - before.untranslated,
      forwarded: now.forwarded - before.forwarded,
      answered: now.answered - before.answered,
    }
  }

  wrong(when: string, { untranslated, forwarded, answered }: Seen): string[] {
    const said = (count: number, what: string): string[] => (count > 0 ? [`${when} ${count} ${what}`] : [])
    return [
      ...said(untranslated, 'frames left untranslated'),
      ...said(forwarded, 'packets were forwarded by the kernel'),
      ...said(answered, 'packets were answered by the kernel'),
    ]
  }

  #now(): Seen {
    const lines = this.#topology.gateway.exec('cat', '/proc/net/snmp').split('\n')
    const counter = (protocol: string, name: string): number => {
      const [names = [], values = []] = lines.filter((line) => line.startsWith(`${protocol}:`)).map((l) => l.split(' '))
      return Number(values[names.indexOf(name)])
    }
    return {
      untranslated: this.#insideFrames.count(),
      forwarded: counter('Ip', 'ForwDatagrams'),
      answered: counter('Tcp', 'OutRsts') + counter('Icmp', 'OutDestUnreachs') + counter('Icmp', 'OutTimeExcds'),
    }
  }
}

export class FlushedGateway {
  readonly #topology: Topology
  readonly #processes: Processes
  readonly #way: string
  #program: Program | undefined

  constructor(topology: Topology, processes: Processes, way: string) {
    this.#topology = topology
    this.#processes = processes
    this.#way = way
  }

  /** Resolves when it forwards. */
  async start(): Promise<void> {
    const { gateway, directory } = this.#topology
    const program = this.#processes.start(gateway, process.execPath, [COMMAND, 'run'], {
      name: 'natloom run',
      env: {
        NATLOOM_CONFIG: '/dev/null',
        NATLOOM_INSIDE: INSIDE_INTERFACE,
        NATLOOM_OUTSIDE: OUTSIDE_INTERFACE,
        NATLOOM_STATE_PATH: `${directory}/state.json`,
        NATLOOM_API_SOCKET: `${directory}/api.sock`,
        NATLOOM_LOG_FORMAT: 'json',
        NATLOOM_WORKERS: '1',
        NATLOOM_LAB_RULES: this.#way,
      },
    })
    this.#program = program
    await until('natloom forwards', () => program.output.includes('"forwarding"'))
  }

  flush(): void {
    this.#topology.gateway.exec('nft', 'flush', 'ruleset')
  }

  /** Resolves when all tables are there that this way has. */
  complete(): Promise<void> {
    const wanted = this.#way === 'pair' ? ['table ip natloom', 'table ip natloom-owned'] : ['table ip natloom']
    const there = () => this.#topology.gateway.exec('nft', 'list', 'tables').split('\n')
    return until('the tables are complete', () => wanted.every((table) => there().includes(table)))
  }

  /** How many tables natloom has made again. */
  restored(): number {
    const text = this.#topology.gateway.exec('curl', '-s', 'http://127.0.0.1:9464/metrics')
    return Number(/^natloom_host_rules_restored_total (\d+)$/m.exec(text)?.[1])
  }

  async kill(): Promise<void> {
    this.#program?.child.kill('SIGKILL')
    await this.#program?.within(PATIENCE_MS)
  }

  /** What was wrong with its end. */
  async stop(): Promise<string[]> {
    this.#program?.child.kill('SIGTERM')
    const ended = await this.#program?.within(PATIENCE_MS)
    return ended?.code === 0 ? [] : [`natloom run ended with ${ended?.code ?? ended?.signal} after SIGTERM`]
  }
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  for (const deadline = Date.now() + PATIENCE_MS; !isSo(); await delay(LOOK_EVERY_MS))
    if (Date.now() > deadline) throw new Error(`${what}: not within ${PATIENCE_MS / 1000} s`)
}
