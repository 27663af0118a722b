// The configuration's key `limits`, such as `{ inside: 10.0.0.0/24, connections: 2000 }`, read into numbers, and what a
// host may have where it says nothing: a quarter of each table that all hosts share, so that no three of them can take
// it from the others (RFC 6888 REQ-4 and 5). What is asked when is in conntrack/hosts.shard.ts.

import { type HostQuotas, type HostRule, NO_LIMIT } from '../conntrack/host-quotas.ts'
import { HOST_LIMITS, LIMIT_KEYS, type LimitKey } from '../counters/host-limits.ts'
import { privateRoom } from '../datapath/shard-tables.ts'
import { wholeBlocks } from '../nat/externals.ts'
import { editedConnections } from '../nat/sequence-table.ts'
import { WAITING_PACKETS } from '../routing/neighbour-requests.ts'
import { parsePrefix } from '../wire/address.ts'
import { poolSize } from './address-range.ts'
import type { GatewayConfig, HostLimitsConfig } from './config.ts'
import { POOL_PORTS } from './leases/external-addresses.ts'
import { type TablesConfig, tableSizes } from './memory-plan.ts'

/** The keys of a rule that are limits, in order. */
export const limitKeys: readonly LimitKey[] = HOST_LIMITS.map((name) => LIMIT_KEYS[name])

/** For whom nothing is to be limited. */
export const WITHOUT_LIMITS: readonly HostLimitsConfig[] = [
  Object.fromEntries(HOST_LIMITS.map((name) => [LIMIT_KEYS[name], NO_LIMIT])),
]

/** One host's part of what all of them share. */
const SHARE = 4
/** Far more than a browser or a crawler begins in a second, far fewer than a shard can make. */
const NEW_CONNECTIONS = 4000
const EVERYWHERE = '0.0.0.0/0'

export type LimitsConfig = Omit<TablesConfig, 'inside' | 'outside'> & {
  readonly limits: readonly HostLimitsConfig[]
  readonly icmp: GatewayConfig['icmp']
}

export function hostQuotas(config: LimitsConfig): HostQuotas {
  const { workers, nat, limits, capacity, icmp } = config
  const sizes = tableSizes(config)
  const { connections } = sizes
  const { helped, fragments } = privateRoom(sizes)
  const ports = wholeBlocks(poolSize(nat.pool) > 0 ? POOL_PORTS : nat.ports, nat.blockSize).length * nat.blockSize
  const shareOf = (total: number): number => Math.ceil(total / SHARE)
  /** Of what each shard has so much of. */
  const ofEach = (each: number) => ({ all: shareOf(each * workers), shard: shareOf(each) })
  const ofAll = (total: number) => ({ all: shareOf(total), shard: NO_LIMIT })
  return {
    defaults: {
      connections: ofEach(connections),
      // Of one address and one protocol: a host has one address of the pool (paired pooling).
      ports: ofAll(ports),
      'new-connections': { all: NEW_CONNECTIONS, shard: NO_LIMIT },
      expectations: ofAll(capacity.expectations),
      'icmp-errors': ofAll(icmp.errorsPerSecond),
      'waiting-packets': ofEach(WAITING_PACKETS),
      'sequence-edits': ofEach(editedConnections(connections)),
      'helped-connections': ofEach(helped),
      'fragment-records': ofEach(fragments),
    },
    rules: limits.map(parseRule),
  }
}

/** Throws RangeError for a rule that the configuration's schema refuses. */
function parseRule({ inside = EVERYWHERE, ...limits }: HostLimitsConfig): HostRule {
  const said = HOST_LIMITS.flatMap((name) => {
    const most = limits[LIMIT_KEYS[name]]
    return most === undefined ? [] : [[name, most] as const]
  })
  return {
    inside: parsePrefix(inside.includes('/') ? inside : `${inside}/32`),
    limits: Object.fromEntries(said) as HostRule['limits'],
  }
}
