// Quotas for tests: what is not said is not limited.

import { type HostQuotas, type HostRule, NO_LIMIT, UNLIMITED } from '../../src/conntrack/host-quotas.ts'
import type { HostLimitName } from '../../src/counters/host-limits.ts'
import { parsePrefix } from '../../src/wire/address.ts'

export type Limits = Partial<Record<HostLimitName, number>>

/** By default in all shards together, and by prefix. */
export function quotas(everybody: Limits, ...rules: readonly (readonly [string, Limits])[]): HostQuotas {
  const said = Object.entries(everybody).map(([name, all]) => [name, { all, shard: NO_LIMIT }])
  return {
    defaults: { ...UNLIMITED.defaults, ...Object.fromEntries(said) },
    rules: rules.map(([prefix, limits]): HostRule => ({ inside: parsePrefix(prefix), limits })),
  }
}
