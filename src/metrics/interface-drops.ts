// What was dropped by the interface that it came by, and what was lost at each interface, beside the shards' own
// counters by reason or by side alone: an attack from outside and a fault inside that share a reason are two series. It
// is of all shards together, so that there are no more series than interfaces times reasons. Read at each scrape.

import { Counter, type Registry } from 'prom-client'
import { DROP_REASONS } from '../counters/drop-reasons.ts'
import type { DropTable } from '../counters/drop-table.ts'

/** Implemented by the gateway's memory (coordinator/memory.ts). */
export interface InterfaceDrops {
  readonly drops: DropTable
  /** By port number: names, and 0 for the inside. */
  readonly interfaces: readonly string[]
  readonly sides: readonly number[]
}

export function registerInterfaceDrops(registry: Registry, { drops: table, interfaces, sides }: InterfaceDrops): void {
  const labelNames = ['interface', 'side']
  const each = (report: (port: number, labels: Record<string, string>) => void): void => {
    for (const [port, name] of interfaces.entries())
      report(port, { interface: name, side: sides[port] === 0 ? 'inside' : 'outside' })
  }
  const overWorkers = (of: (worker: number) => number): number =>
    Array.from({ length: table.workers }, (_, worker) => of(worker)).reduce((sum, each) => sum + each, 0)
  const dropped = new Counter({
    name: 'natloom_interface_dropped_packets_total',
    help: 'Packets dropped, by the interface that they came by and by reason',
    labelNames: [...labelNames, 'reason'],
    registers: [registry],
    collect() {
      dropped.reset()
      each((port, labels) => {
        for (const [number, [reason]] of DROP_REASONS.entries()) {
          const packets = overWorkers((worker) => table.packets[table.classOf(worker, port, number)]!)
          dropped.inc({ ...labels, reason }, packets)
        }
      })
    },
  })
  const links = [
    ['natloom_interface_send_failures_total', 'Packets that an interface refused to send'],
    ['natloom_interface_receive_losses_total', "Packets lost because an interface's receive ring was full"],
  ] as const
  for (const [word, [name, help]] of links.entries()) {
    const counter = new Counter({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        counter.reset()
        each((port, labels) => {
          const packets = overWorkers((worker) => table.links[table.linkOf(worker, port) + word]!)
          counter.inc(labels, packets)
        })
      },
    })
  }
}
