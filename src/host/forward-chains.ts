// Finds the forward chains that would refuse packets between our interfaces. natloom takes its packets before the
// kernel's forward hook, so these chains do nothing to them any more: whoever relied on one must be told. Authority:
// nft(8), libnftables-json(5).

import { nft } from './nft.ts'
import { chainName, type Rule, type Ruleset, rulesOnWays, verdictsOf, type Way } from './ruleset.ts'

export interface ForwardChain {
  /** `inet filter forward` */
  readonly chain: string
  /** What becomes of a packet that no rule decides about: `accept` or `drop`. */
  readonly policy: string
  /** The rules that drop, reject or hand to a program what would be natloom's, here or in chains that it jumps to. */
  readonly refusing: readonly { readonly chain: string; readonly handle: number }[]
}

/** Targets of iptables that end a packet's way. */
const REFUSING_TARGETS = ['DROP', 'REJECT', 'NFQUEUE']

/**
 * The forward chains of others that have a rule, or the policy, to refuse what passes between `inside` and `outside`.
 * `own` says which tables are natloom's, by family and name: `ip natloom`.
 */
export function forwardChains(
  ruleset: Ruleset,
  inside: readonly string[],
  outside: readonly string[],
  own: (table: string) => boolean,
): ForwardChain[] {
  const ways: Way[] = inside.flatMap((lan) =>
    outside.flatMap((wan) => [
      { in: lan, out: wan },
      { in: wan, out: lan },
    ]),
  )
  return ruleset.chains
    .filter(
      ({ hook, family, table }) => hook === 'forward' && ['ip', 'inet'].includes(family) && !own(`${family} ${table}`),
    )
    .map((base) => {
      const refusing = new Set(rulesOnWays(ruleset, base, ways).flatMap(({ rule }) => (refuses(rule) ? [rule] : [])))
      return {
        chain: chainName(base.family, base.table, base.name),
        policy: base.policy ?? 'accept',
        refusing: [...refusing].map((rule) => ({
          chain: chainName(rule.family, rule.table, rule.chain),
          handle: rule.handle,
        })),
      }
    })
    .filter(({ policy, refusing }) => policy === 'drop' || refusing.length > 0)
}

const refuses = (rule: Rule): boolean =>
  verdictsOf(rule).some((statement) => {
    if ('drop' in statement || 'reject' in statement || 'queue' in statement) return true
    const { type, name } = (statement.xt ?? {}) as { type?: string; name?: string }
    return type === 'target' && name !== undefined && REFUSING_TARGETS.includes(name)
  })

/** The rules of a chain as nft writes them, by handle. Throws HostError HOST_NFT. */
export function ruleTexts(chain: string): Map<number, string> {
  const texts = new Map<number, string>()
  for (const line of nft(['-a', 'list', 'chain', ...chain.split(' ')]).split('\n')) {
    const [, text, handle] = /^\t\t(.*) # handle (\d+)$/.exec(line) ?? []
    if (handle !== undefined) texts.set(Number(handle), text!)
  }
  return texts
}
