// Finds rules by which the kernel itself translates sources towards an outside interface, because it may give out the
// same ports of the same address as natloom. Authority: nft(8), libnftables-json(5). Rules of iptables-nft are found
// too; those of the older iptables-legacy are not in nft's listing.

import { nft } from './nft.ts'
import type { PortRange } from './port-range.ts'

export interface KernelNatRule {
  /** `ip nat POSTROUTING` */
  readonly chain: string
  /** For `nft delete rule`. */
  readonly handle: number
  /** `masquerade`, `snat`, or what iptables calls its target. */
  readonly statement: string
}

interface Rule {
  readonly family: string
  readonly table: string
  readonly chain: string
  readonly handle: number
  readonly expr?: readonly Record<string, unknown>[]
}
interface Chain {
  readonly family: string
  readonly table: string
  readonly name: string
  readonly type?: string
  readonly hook?: string
}
interface Listing {
  readonly nftables: readonly { readonly rule?: Rule; readonly chain?: Chain }[]
}

/**
 * The rules that may translate a packet leaving by one of `outside` to a port within `natPorts`.
 * Throws HostError HOST_NFT.
 */
export const kernelNat = (outside: readonly string[], natPorts: PortRange): KernelNatRule[] =>
  kernelNatIn(JSON.parse(nft(['-j', 'list', 'ruleset'])), outside, natPorts)

function kernelNatIn(listing: Listing, outside: readonly string[], natPorts: PortRange): KernelNatRule[] {
  const chainName = (family: string, table: string, chain: string): string => `${family} ${table} ${chain}`
  const rules = new Map<string, Rule[]>()
  const entrances: { chain: string; interfaces: readonly string[] }[] = []
  for (const { rule, chain } of listing.nftables) {
    if (chain && chain.type === 'nat' && chain.hook === 'postrouting' && ['ip', 'inet'].includes(chain.family))
      entrances.push({ chain: chainName(chain.family, chain.table, chain.name), interfaces: outside })
    if (!rule) continue
    const name = chainName(rule.family, rule.table, rule.chain)
    rules.set(name, [...(rules.get(name) ?? []), rule])
  }

  const found = new Map<Rule, KernelNatRule>()
  const visited = new Set<string>()
  for (let entrance = entrances.pop(); entrance; entrance = entrances.pop()) {
    const { chain } = entrance
    for (const rule of rules.get(chain) ?? []) {
      const interfaces = entrance.interfaces.filter((name) => leavesBy(rule, name))
      if (interfaces.length === 0) continue
      const statement = sourceNat(rule, natPorts)
      if (statement) found.set(rule, { chain, handle: rule.handle, statement })
      const target = jumpTarget(rule)
      if (target === undefined) continue
      const next = chainName(rule.family, rule.table, target)
      const visit = `${next} ${interfaces.join(' ')}`
      if (!visited.has(visit)) entrances.push({ chain: next, interfaces })
      visited.add(visit)
    }
  }
  return [...found.values()]
}

/** Whether the rule's matches on the outgoing interface accept this one. A match that isn't understood does. */
function leavesBy({ expr = [] }: Rule, name: string): boolean {
  return expr.every(({ match }) => {
    const { op, left, right } = (match ?? {}) as { op?: string; left?: { meta?: { key?: string } }; right?: unknown }
    if (left?.meta?.key !== 'oifname' && left?.meta?.key !== 'oif') return true
    const names = typeof right === 'string' ? [right] : (right as { set?: unknown[] } | undefined)?.set
    if (!names?.every((each) => typeof each === 'string')) return true
    const named = names.some((each) => (each.endsWith('*') ? name.startsWith(each.slice(0, -1)) : each === name))
    return named === (op !== '!=')
  })
}

function jumpTarget({ expr = [] }: Rule): string | undefined {
  for (const statement of expr) {
    const target = ((statement.jump ?? statement.goto) as { target?: string } | undefined)?.target
    if (target !== undefined) return target
  }
  return undefined
}

function sourceNat({ expr = [] }: Rule, natPorts: PortRange): string | undefined {
  for (const statement of expr) {
    for (const kind of ['masquerade', 'snat'])
      if (kind in statement && takesFrom(statement[kind], natPorts)) return kind
    const { type, name } = (statement.xt ?? {}) as { type?: string; name?: string }
    if (type === 'target' && name && ['MASQUERADE', 'SNAT', 'NETMAP'].includes(name)) return name
  }
  return undefined
}

/** Without a port range the kernel keeps the source port, which may be any port. */
function takesFrom(statement: unknown, natPorts: PortRange): boolean {
  const port = (statement as { port?: unknown } | null)?.port
  const range = (port as { range?: unknown } | undefined)?.range
  const [from, to] = Array.isArray(range) ? range : [port, port]
  if (typeof from !== 'number' || typeof to !== 'number') return true
  return from <= natPorts.to && to >= natPorts.from
}
