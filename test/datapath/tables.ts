// A look into a shard's tables: its modules, whose memory is module-level, and its rows as objects.

import {
  ASSURED,
  CONN,
  CONN_WORDS,
  EXPECTED,
  SEEN_REPLY,
  SIMULTANEOUS_OPEN,
} from '../../src/conntrack/connection-table.ts'
import type * as Connections from '../../src/conntrack/connections.shard.ts'
import type { HostTable } from '../../src/conntrack/host-table.ts'
import { ENDED, MAPPING, MAPPING_WORDS, SECOND } from '../../src/conntrack/mapping-table.ts'
import type * as Mappings from '../../src/conntrack/mappings.shard.ts'
import type * as Permissions from '../../src/conntrack/permissions.shard.ts'
import type * as Queues from '../../src/conntrack/queues.shard.ts'
import { TCP_STATES, type TcpState } from '../../src/conntrack/tcp-state.ts'
import type * as Tuple from '../../src/conntrack/terms.ts'
import { destinationPort, sourcePort } from '../../src/conntrack/terms.ts'
import type * as Track from '../../src/conntrack/track.shard.ts'
import type { DropTable } from '../../src/counters/drop-table.ts'
import { LIVE } from '../../src/memory/rows.ts'
import type * as Blocks from '../../src/nat/blocks.shard.ts'
import type { Externals } from '../../src/nat/externals.ts'
import type * as Freeable from '../../src/nat/freeable-mappings.shard.ts'
import type * as Quarantine from '../../src/nat/quarantine.shard.ts'
import { formatAddress, swap16 } from '../../src/wire/address.ts'

/** The shard's own modules: their memory is module-level. */
export interface Tables {
  readonly connections: typeof Connections
  readonly mappings: typeof Mappings
  readonly permissions: typeof Permissions
  readonly queues: typeof Queues
  readonly track: typeof Track
  readonly tuple: typeof Tuple
  readonly blocks: typeof Blocks
  readonly freeable: typeof Freeable
  readonly quarantine: typeof Quarantine
  readonly externals: Externals
  readonly hosts: HostTable
  readonly dropTable: DropTable
}

/** The tables of the shard that was attached last. */
export const tablesOf = async (externals: Externals, hosts: HostTable, dropTable: DropTable): Promise<Tables> => ({
  connections: await import('../../src/conntrack/connections.shard.ts'),
  mappings: await import('../../src/conntrack/mappings.shard.ts'),
  permissions: await import('../../src/conntrack/permissions.shard.ts'),
  queues: await import('../../src/conntrack/queues.shard.ts'),
  track: await import('../../src/conntrack/track.shard.ts'),
  tuple: await import('../../src/conntrack/terms.ts'),
  blocks: await import('../../src/nat/blocks.shard.ts'),
  freeable: await import('../../src/nat/freeable-mappings.shard.ts'),
  quarantine: await import('../../src/nat/quarantine.shard.ts'),
  externals,
  hosts,
  dropTable,
})

export interface Connection {
  readonly row: number
  readonly protocol: number
  /** Side of the original direction: 0 inside, 1 outside. */
  readonly origin: number
  readonly state: TcpState
  readonly seenReply: boolean
  readonly assured: boolean
  readonly simultaneousOpen: boolean
  readonly expected: boolean
  /** Of one that was expected. */
  readonly master: { readonly shard: number; readonly row: number } | undefined
  readonly timeout: number
  readonly lastSeen: number
  /** By direction. */
  readonly packets: readonly [number, number]
  readonly bytes: readonly [number, number]
  /** `source:port > destination:port` of both directions. */
  readonly original: string
  readonly reply: string
  /** Row, 0 for none. */
  readonly mapping: number
}

/** Live rows of a table. */
export const rowsOf = (words: Int32Array, width: number, flags: number): number[] =>
  Array.from({ length: words.length / width }, (_, row) => row).filter((row) => words[row * width + flags]! & LIVE)

/** Every live connection. */
export function connectionsOf({ connections }: Tables): Connection[] {
  const { hot, cold } = connections
  return rowsOf(hot, CONN_WORDS, CONN.state).map((row) => {
    const at = (word: number): number => hot[row * CONN_WORDS + word]!
    const word = at(CONN.state)
    const tuple = (from: number): string => {
      const [src, dst, ports] = [formatAddress(at(from)), formatAddress(at(from + 1)), at(from + 2)]
      return `${src}:${sourcePort(ports)} > ${dst}:${destinationPort(ports)}`
    }
    const wrapped = (low: number, wraps: number): number => wraps * 2 ** 32 + (low >>> 0)
    return {
      row,
      protocol: word & 0xff,
      origin: (word >> 8) & 1,
      state: TCP_STATES[(word >> 9) & 15]!,
      seenReply: (word & SEEN_REPLY) !== 0,
      assured: (word & ASSURED) !== 0,
      simultaneousOpen: (word & SIMULTANEOUS_OPEN) !== 0,
      expected: (word & EXPECTED) !== 0,
      master: cold.masterRow[row] === 0 ? undefined : { shard: cold.masterShard[row]!, row: cold.masterRow[row]! },
      timeout: at(CONN.timeout),
      lastSeen: at(CONN.lastSeen),
      packets: [
        wrapped(at(CONN.packets), cold.packetWraps[row]!),
        wrapped(at(CONN.packetsReply), cold.packetWrapsReply[row]!),
      ],
      bytes: [wrapped(at(CONN.bytes), cold.byteWraps[row]!), wrapped(at(CONN.bytesReply), cold.byteWrapsReply[row]!)],
      original: tuple(CONN.origSrc),
      reply: tuple(CONN.replySrc),
      mapping: cold.mapping[row]!,
    }
  })
}

export interface Mapping {
  readonly row: number
  readonly protocol: number
  readonly inside: string
  readonly external: string
  /** Entry of the external address, and the external port. */
  readonly entry: number
  readonly port: number
  readonly holders: number
  readonly rows: number
  readonly ended: boolean
  /** Found by its external end only. */
  readonly second: boolean
}

/** Every mapping, the ended ones that connections still refer to included. */
export function mappingsOf({ mappings: { mapping } }: Tables): Mapping[] {
  return rowsOf(mapping, MAPPING_WORDS, MAPPING.flags).map((row) => {
    const at = (word: number): number => mapping[row * MAPPING_WORDS + word]!
    const port = swap16(at(MAPPING.ports) >>> 16)
    return {
      row,
      protocol: at(MAPPING.flags) & 0xff,
      inside: `${formatAddress(at(MAPPING.insideAddress))}:${swap16(at(MAPPING.ports))}`,
      external: `${formatAddress(at(MAPPING.externalAddress))}:${port}`,
      entry: at(MAPPING.external),
      port,
      holders: at(MAPPING.holders),
      rows: at(MAPPING.rows),
      ended: (at(MAPPING.flags) & ENDED) !== 0,
      second: (at(MAPPING.flags) & SECOND) !== 0,
    }
  })
}
