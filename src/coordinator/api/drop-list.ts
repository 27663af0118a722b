// What was dropped and whose it was: the classes of the drop table (counters/drop-table.ts), those of all workers
// together, as JSON, one a line: for each interface and reason how many packets, and the sources that had most of them
// lately, each with its last packet. The reason that has dropped most comes first. Owner: nobody; reads what the
// workers count.

import { destinationPort, OUTSIDE, type Side, sourcePort } from '../../conntrack/terms.ts'
import { DROP_REASONS, type DropReason, type DropReasonName } from '../../counters/drop-reasons.ts'
import type { DropSource, DropTable } from '../../counters/drop-table.ts'
import { formatAddress } from '../../wire/address.ts'

export interface ListedDrops {
  readonly interface: string
  readonly side: 'inside' | 'outside'
  readonly reason: DropReasonName
  /** What the reason means. */
  readonly text: string
  /** Since the gateway's start. */
  readonly packets: number
  /** At most MOST_SOURCES, those with most first. */
  readonly sources: readonly ListedSource[]
}

export interface ListedSource {
  readonly source: string
  /** About how many lately: a packet counts half as much a minute later. */
  readonly recent: number
  readonly last: {
    readonly secondsAgo: number
    /** Its number. */
    readonly protocol: number
    readonly destination: string
    /** null: there are none, or they were not read. */
    readonly sourcePort: number | null
    readonly destinationPort: number | null
  }
}

/** Sources of an interface and a reason in the list. */
export const MOST_SOURCES = 10
const [TCP, UDP] = [6, 17]

/** The part of a gateway's memory (coordinator/memory.ts) that the list is read from. */
export interface DropsMemory {
  readonly drops: DropTable
  /** Names of interfaces, and their sides, by port number. */
  readonly interfaces: readonly string[]
  readonly sides: readonly Side[]
}

/** The text of a JSON array. `second` is that of the shards' clock. */
export function dropList({ drops, interfaces, sides }: DropsMemory, second: number): string {
  const listed: ListedDrops[] = []
  for (const [port, name] of interfaces.entries()) {
    const side = sides[port] === OUTSIDE ? 'outside' : 'inside'
    for (const [reason, [reasonName, text]] of DROP_REASONS.entries()) {
      const packets = packetsOf(drops, port, reason)
      if (packets === 0) continue
      const sources = sourcesOf(drops, port, reason, second)
      listed.push({ interface: name, side, reason: reasonName, text, packets, sources })
    }
  }
  listed.sort((a, b) => b.packets - a.packets)
  return listed.length === 0 ? '[]\n' : `[\n${listed.map((drop) => JSON.stringify(drop)).join(',\n')}\n]\n`
}

const workersOf = ({ workers }: DropTable): number[] => Array.from({ length: workers }, (_, worker) => worker)

const packetsOf = (drops: DropTable, port: number, reason: DropReason): number =>
  workersOf(drops).reduce((sum, worker) => sum + drops.packets[drops.classOf(worker, port, reason)]!, 0)

function sourcesOf(drops: DropTable, port: number, reason: DropReason, second: number): ListedSource[] {
  const merged = new Map<number, DropSource>()
  for (const worker of workersOf(drops))
    for (const source of drops.sourcesOf(drops.classOf(worker, port, reason), second)) {
      const known = merged.get(source.address)
      const newest = known !== undefined && known.second > source.second ? known : source
      merged.set(source.address, { ...newest, count: source.count + (known?.count ?? 0) })
    }
  return [...merged.values()]
    .sort((a, b) => b.count - a.count)
    .slice(0, MOST_SOURCES)
    .map((source) => listedSource(source, second))
}

function listedSource({ address, count, ports, ...last }: DropSource, second: number): ListedSource {
  const hasPorts = ports !== 0 && (last.protocol === TCP || last.protocol === UDP)
  return {
    source: formatAddress(address),
    recent: count,
    last: {
      secondsAgo: Math.max(0, second - last.second),
      protocol: last.protocol,
      destination: formatAddress(last.destination),
      sourcePort: hasPorts ? sourcePort(ports) : null,
      destinationPort: hasPorts ? destinationPort(ports) : null,
    },
  }
}
