// One shard's expectations over memory of their own, and others' beside it: each shard has modules of its own, as
// threads have.

import { CONN, CONN_WORDS } from '../../src/conntrack/connection-table.ts'
import { ExpectationTable } from '../../src/conntrack/expectation-table.ts'
import type { Draft } from '../../src/conntrack/expectations.shard.ts'
import { HostTable } from '../../src/conntrack/host-table.ts'
import { allocate } from '../../src/memory/region.ts'
import { parseAddress, swap16 } from '../../src/wire/address.ts'
import { attachTables } from './attached-tables.ts'

export const TCP = 6
export const UDP = 17
export const OUTSIDE_KEY = TCP | (1 << 8)
export const CLIENT = '10.0.0.5'
export const SERVER = '192.0.2.7'
export const EXTERNAL = '203.0.113.1'
export const ports = (source: number, destination: number): number => swap16(source) | (swap16(destination) << 16)

export const makeTable = (capacity: number, shards: number): ExpectationTable =>
  allocate((region) => new ExpectationTable(region, { capacity, shards })).view

/** A host table for who looks at one: these shards count in none. */
export const noHosts = (): HostTable => allocate((region) => new HostTable(region, { hosts: 16, shards: 1 })).view

/** A shard on a table, with a few connections to be masters; `released` are the port indices given back. */
export async function expecting(
  table: ExpectationTable,
  shard: number,
  epoch = 1,
  giveBack: (at: number) => void = () => {},
) {
  const modules = await attachTables(8)
  const announcing = await import('../../src/conntrack/expectations.shard.ts')
  const expectations = {
    ...(await import('../../src/conntrack/expectation-slots.shard.ts')),
    ...announcing,
    ...(await import('../../src/conntrack/expectation-matching.shard.ts')),
  }
  const released: number[] = []
  expectations.attachExpectations(table, shard, epoch, (at) => {
    released.push(at)
    giveBack(at)
  })
  modules.clock.setClock(1_000_000)
  return {
    ...modules,
    ...expectations,
    /** Why expect() has published nothing. */
    refusal: () => announcing.expectRefusal,
    released,
    setSecond: (second: number) => modules.clock.setClock(second * 1000),
  }
}
export type Expecting = Awaited<ReturnType<typeof expecting>>

/** A control connection of the shard: row, and the generation by which it is known. */
export function master({ connections }: Expecting, source = 50003): { row: number; generation: number } {
  const row = connections.connections.begin()
  const base = row * CONN_WORDS
  const { hot } = connections
  hot[base + CONN.origSrc] = parseAddress(CLIENT)
  hot[base + CONN.origDst] = parseAddress(SERVER)
  hot[base + CONN.origPorts] = ports(source, 21)
  hot[base + CONN.state] = TCP
  connections.connections.commit(row)
  return { row, generation: hot[base + CONN.generation]! }
}

/** What an active FTP client's PORT announces: the server connects to an external port. */
export function draft(said: Partial<Omit<Draft, 'src' | 'dst'>> & { src?: string; dst?: string } = {}): Draft {
  const { src = SERVER, dst = EXTERNAL, ...rest } = said
  return {
    key: OUTSIDE_KEY,
    src: parseAddress(src),
    srcMask: -1,
    srcPort: 0,
    dst: parseAddress(dst),
    dstPort: swap16(40000),
    savedAddress: parseAddress(CLIENT),
    savedPort: swap16(40000),
    flags: 0,
    helper: 1,
    childHelper: 0,
    class: 0,
    maxExpected: 8,
    timeout: 300,
    masterRow: 0,
    masterGeneration: 0,
    direction: 0,
    reservation: 0,
    ...rest,
  }
}
