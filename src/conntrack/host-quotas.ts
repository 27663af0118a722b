// How much of each limit a host may have, as numbers: defaults, and an ordered list of rules by inside address, of
// which the first that matches a host decides; what a rule leaves out is the default. Each shard asks it in
// hosts.shard.ts. Owner: the coordinator, which posts them to the shards at their start.

import { HOST_LIMITS, type HostLimit, type HostLimitName } from '../counters/host-limits.ts'
import type { Brand } from '../memory/brand.ts'
import type { Addr, Prefix } from '../wire/address.ts'

export interface Quota {
  /** In all shards together. */
  readonly all: number
  /** In one shard: a share of what that shard has of it. A rule of the operator's sets none. */
  readonly shard: number
}

export interface HostRule {
  readonly inside: Prefix
  /** In all shards together; a limit that is left out is the default. */
  readonly limits: Readonly<Partial<Record<HostLimitName, number>>>
}

/** Plain data, posted to workers. */
export interface HostQuotas {
  readonly defaults: Readonly<Record<HostLimitName, Quota>>
  readonly rules: readonly HostRule[]
}

/** Above whatever can be counted. */
export const NO_LIMIT = 0x7fffffff

/** Nothing is limited: in a replay, which shows what was sent, and where hosts are not to be told apart. */
export const UNLIMITED: HostQuotas = {
  defaults: Object.fromEntries(HOST_LIMITS.map((name) => [name, { all: NO_LIMIT, shard: NO_LIMIT }])) as Record<
    HostLimitName,
    Quota
  >,
  rules: [],
}

/** Where the quotas of a host begin among the words. */
export type QuotaBase = Brand<'QuotaBase'>

const ADDRESS = 0
const MASK = 1
const ALL = 2
const SHARD = ALL + HOST_LIMITS.length
const WIDTH = SHARD + HOST_LIMITS.length

/** The quotas as the words that the functions below read: the defaults, then each rule. */
export function compileQuotas({ defaults, rules }: HostQuotas): Int32Array {
  const words = new Int32Array((rules.length + 1) * WIDTH)
  const everybody = { inside: { address: 0, mask: 0 }, limits: {} }
  for (const [i, { inside, limits }] of [everybody, ...rules].entries()) {
    const base = i * WIDTH
    words[base + ADDRESS] = inside.address
    words[base + MASK] = inside.mask
    for (const [limit, name] of HOST_LIMITS.entries()) {
      const said = (limits as HostRule['limits'])[name]
      words[base + ALL + limit] = said ?? defaults[name].all
      words[base + SHARD + limit] = said ?? defaults[name].shard
    }
  }
  return words
}

/** The quotas of a host: those of the first rule that matches it, else the defaults. */
export function quotasOf(words: Int32Array, host: Addr): QuotaBase {
  for (let base = WIDTH; base < words.length; base += WIDTH)
    if ((host & words[base + MASK]!) === words[base + ADDRESS]) return base
  return 0
}

export const inAll = (words: Int32Array, base: QuotaBase, limit: HostLimit): number => words[base + ALL + limit]!
export const inShard = (words: Int32Array, base: QuotaBase, limit: HostLimit): number => words[base + SHARD + limit]!
