// Finds rules by which the kernel itself translates sources towards an outside interface, because it may give out the
// same ports of the same address as natloom. Authority: nft(8), libnftables-json(5).

import type { PortRange } from './port-range.ts'
import { chainName, type Rule, type Ruleset, rulesOnWays } from './ruleset.ts'

export interface KernelNatRule {
  /** `ip nat POSTROUTING` */
  readonly chain: string
  /** For `nft delete rule`. */
  readonly handle: number
  /** `masquerade`, `snat`, or what iptables calls its target. */
  readonly statement: string
}

/** The rules that may translate a packet leaving by one of `outside` to a port within `natPorts`. */
export function kernelNat(ruleset: Ruleset, outside: readonly string[], natPorts: PortRange): KernelNatRule[] {
  const ways = outside.map((out) => ({ out }))
  const found = new Map<Rule, KernelNatRule>()
  for (const base of ruleset.chains) {
    if (base.type !== 'nat' || base.hook !== 'postrouting' || !['ip', 'inet'].includes(base.family)) continue
    for (const { rule } of rulesOnWays(ruleset, base, ways)) {
      const statement = sourceNat(rule, natPorts)
      const chain = chainName(rule.family, rule.table, rule.chain)
      if (statement) found.set(rule, { chain, handle: rule.handle, statement })
    }
  }
  return [...found.values()]
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
