// The rules of this network namespace, nftables' own and those of iptables-nft, as nft lists them, and which of them
// meet a packet on its way through our interfaces. Authority: nft(8), libnftables-json(5). Rules of iptables-legacy are
// not in nft's listing; only which of its tables are there can be told (legacyTables).

import { readFileSync } from 'node:fs'
import { HostError, reasonOf } from './errors.ts'
import { nft } from './nft.ts'

export interface Rule {
  readonly family: string
  readonly table: string
  readonly chain: string
  readonly handle: number
  readonly expr?: readonly Record<string, unknown>[]
}

export interface Chain {
  readonly family: string
  readonly table: string
  readonly name: string
  /** These of a base chain only. */
  readonly type?: string
  readonly hook?: string
  readonly policy?: string
}

/** In the order of the listing. */
export interface Ruleset {
  readonly chains: readonly Chain[]
  readonly rules: readonly Rule[]
}

/** By which interfaces a packet comes in and leaves; undefined: not known, or by any. */
export interface Way {
  readonly in?: string
  readonly out?: string
}

/** A rule, and the ways on which it meets packets. */
export interface RuleOnWays {
  readonly rule: Rule
  readonly ways: readonly Way[]
}

interface Listing {
  readonly nftables: readonly { readonly rule?: Rule; readonly chain?: Chain }[]
}

/** Throws HostError HOST_NFT. */
export const listRuleset = (): Ruleset => readListing(nft(['-j', 'list', 'ruleset']))

/** nft 1.0.6 ends a listing, and says that all is well, at a table that has an owner and is not persistent. */
export function readListing(json: string): Ruleset {
  try {
    return rulesetOf(JSON.parse(json))
  } catch (error) {
    const what = `nft -j list ruleset has printed no whole listing (${reasonOf(error)}): try a newer nft`
    throw new HostError('HOST_NFT', what, { cause: error })
  }
}

export const rulesetOf = ({ nftables }: Listing): Ruleset => ({
  chains: nftables.flatMap(({ chain }) => (chain ? [chain] : [])),
  rules: nftables.flatMap(({ rule }) => (rule ? [rule] : [])),
})

/** `ip nat POSTROUTING` */
export const chainName = (family: string, table: string, chain: string): string => `${family} ${table} ${chain}`

/**
 * The rules that packets on these ways may meet from a base chain on, which follow jumps; each with the ways that its
 * matches on interfaces leave. A rule may be found more than once, if several jumps lead to it.
 */
export function rulesOnWays({ rules }: Ruleset, base: Chain, ways: readonly Way[]): RuleOnWays[] {
  const byChain = new Map<string, Rule[]>()
  for (const rule of rules) {
    const name = chainName(rule.family, rule.table, rule.chain)
    byChain.set(name, [...(byChain.get(name) ?? []), rule])
  }
  const found: RuleOnWays[] = []
  const visited = new Set<string>()
  const visits = [{ name: chainName(base.family, base.table, base.name), ways }]
  for (let visit = visits.pop(); visit; visit = visits.pop()) {
    for (const rule of byChain.get(visit.name) ?? []) {
      const left = visit.ways.filter((way) => admits(rule, way))
      if (left.length === 0) continue
      found.push({ rule, ways: left })
      for (const verdict of verdictsOf(rule)) {
        const target = ((verdict.jump ?? verdict.goto) as { target?: string } | undefined)?.target
        if (target === undefined) continue
        const next = { name: chainName(rule.family, rule.table, target), ways: left }
        const key = JSON.stringify(next)
        if (!visited.has(key)) visits.push(next)
        visited.add(key)
      }
    }
  }
  return found
}

const INTERFACE_KEYS: Readonly<Record<string, keyof Way>> = { iifname: 'in', iif: 'in', oifname: 'out', oif: 'out' }

/** Whether the rule's matches on interfaces accept this way. A match that isn't understood does. */
function admits({ expr = [] }: Rule, way: Way): boolean {
  return expr.every(({ match }) => {
    const { op, left, right } = (match ?? {}) as { op?: string; left?: { meta?: { key?: string } }; right?: unknown }
    const end = INTERFACE_KEYS[left?.meta?.key ?? '']
    const name = end && way[end]
    if (name === undefined) return true
    const names = typeof right === 'string' ? [right] : (right as { set?: unknown[] } | undefined)?.set
    if (!names?.every((each) => typeof each === 'string')) return true
    const named = names.some((each) => (each.endsWith('*') ? name.startsWith(each.slice(0, -1)) : each === name))
    return named === (op !== '!=')
  })
}

/** The statements of a rule; of a verdict map (`ct state vmap { invalid : drop }`) also its verdicts. */
export const verdictsOf = ({ expr = [] }: Rule): Record<string, unknown>[] =>
  expr.flatMap((statement) => {
    const elements = (statement.vmap as { data?: { set?: unknown[] } } | undefined)?.data?.set
    const verdicts = Array.isArray(elements)
      ? elements.map((element) => (Array.isArray(element) ? element[1] : {}))
      : []
    return [statement, ...(verdicts as Record<string, unknown>[])]
  })

/** Names of the tables that iptables-legacy has in this namespace; none if that can't be read. */
export function legacyTables(): string[] {
  try {
    return readFileSync('/proc/net/ip_tables_names', 'utf8').split('\n').filter(Boolean)
  } catch {
    return []
  }
}
