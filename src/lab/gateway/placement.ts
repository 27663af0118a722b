// Checks the connections that a running gateway lists against the ownership rule (src/ownership/ownership-rule.ts).
// Whatever the dispatch:
//
//   - A connection is in one shard only.
//   - That shard owns both of its directions.
//   - A flow of the lab's traffic that was answered is among the connections, and has seen packets both ways.

import type { Connection } from '../../control/api-client.ts'
import { PROTO_ICMP, PROTO_TCP, PROTO_UDP } from '../../wire/ipv4.ts'
import type { Flow } from '../traffic/traffic.ts'
import { type Sample, sum, sumBy } from './metrics-text.ts'

type Direction = Connection['original']

/** So many problems of a kind are told one by one, the others are counted. */
const TOLD = 5
const OTHER_SIDE = { inside: 'outside', outside: 'inside' } as const
const NAMES: Readonly<Record<number, string>> = {
  [PROTO_ICMP]: 'icmp',
  [PROTO_TCP]: 'tcp',
  [PROTO_UDP]: 'udp',
}

/**
 * Reasons of hand-overs that must be: a fragment goes to its fragment owner first and then to its connection's owner, a
 * hairpin is two connections, and a dispatcher hands over every packet.
 */
const BY_RULE: ReadonlySet<string> = new Set(['fragment', 'known-fragment', 'hairpin', 'dispatch'])
/** The share of the received packets that may be handed over for other reasons, as when a port block changes owner. */
const MOST_HANDED_OVER = 0.01

export class Placement {
  readonly #wrong = new Map<string, string[]>()
  /** Connections by each of their directions: the side that its packets come from, and their tuple. */
  readonly #directions = new Map<string, Connection>()

  add(connection: Connection): void {
    const { shard, original, reply } = connection
    if (original.owner !== shard || reply.owner !== shard)
      this.#tell(
        'is not in the shard that owns it',
        `${nameOf(connection)} is in shard ${shard}, its owner by the rule is shard ${original.owner}, ` +
          `that of its answers shard ${reply.owner}`,
      )
    for (const key of keysOf(connection)) {
      const other = this.#directions.get(key)
      if (other)
        this.#tell(
          'is there twice',
          `${nameOf(connection)} is there twice: in shard ${other.shard} and in shard ${shard}`,
        )
      this.#directions.set(key, connection)
    }
  }

  /** A line for each thing that is wrong with the connections, or with these flows of the traffic. */
  wrong(flows: readonly Flow[]): string[] {
    for (const flow of flows) {
      const connection = this.#directions.get(keyOf('inside', flow.protocol, flow))
      const name = nameOf({ protocol: flow.protocol, original: flow })
      if (!connection) this.#tell('is in no shard', `${name} is in no shard`)
      else if (!connection.seenReply || connection.original.packets === 0 || connection.reply.packets === 0)
        this.#tell(
          'has not seen both directions',
          `${name} was answered, and shard ${connection.shard} saw ${connection.original.packets} packets ` +
            `and ${connection.reply.packets} answers`,
        )
    }
    return [...this.#wrong].flatMap(([kind, lines]) =>
      lines.length <= TOLD ? lines : [...lines.slice(0, TOLD), `${lines.length - TOLD} more: a connection ${kind}`],
    )
  }

  #tell(kind: string, line: string): void {
    const lines = this.#wrong.get(kind)
    if (lines) lines.push(line)
    else this.#wrong.set(kind, [line])
  }
}

type Ends = Pick<Direction, 'source' | 'destination'> & {
  readonly sourcePort?: number
  readonly destinationPort?: number
}

/** The keys of both directions. For ICMP the identifier takes the place of a port. */
function keysOf({ protocol, origin, original, reply, icmp }: Connection): string[] {
  return [
    keyOf(origin, protocol, icmp ? { ...original, sourcePort: icmp.id, destinationPort: icmp.type } : original),
    keyOf(
      OTHER_SIDE[origin],
      protocol,
      icmp ? { ...reply, sourcePort: icmp.type, destinationPort: icmp.replyId } : reply,
    ),
  ]
}

const keyOf = (side: string, protocol: number, { source, destination, sourcePort, destinationPort }: Ends): string =>
  [side, protocol, source, sourcePort, destination, destinationPort].join(' ')

function nameOf({ protocol, original }: { readonly protocol: number; readonly original: Ends }): string {
  const end = (address: string, port: number | undefined) => (port === undefined ? address : `${address}:${port}`)
  const { source, destination, sourcePort, destinationPort } = original
  return `${NAMES[protocol] ?? protocol} ${end(source, sourcePort)} to ${end(destination, destinationPort)}`
}

/** A line if too many packets were dispatched to a shard that doesn't own them. */
export function needlessHandovers(samples: readonly Sample[]): string[] {
  const received = sum(samples, 'natloom_received_packets_total')
  const needless = [...sumBy(samples, 'natloom_handovers_total', 'reason')].filter(([reason]) => !BY_RULE.has(reason))
  const packets = needless.reduce((total, [, count]) => total + count, 0)
  if (packets <= received * MOST_HANDED_OVER) return []
  const reasons = needless.filter(([, count]) => count > 0).map(([reason, count]) => `${reason} ${count}`)
  return [`${packets} of ${received} packets came to a shard that does not own them: ${reasons.join(', ')}`]
}
