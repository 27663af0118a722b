// A rule of the key `filter` as one line: `deny out tcp inside 10.0.0.0/8 port 25`. It is how the environment variable,
// `natloom replay --filter` and the output of `natloom check` write it; natloom.yaml takes it too. The action comes
// first; the other words may stand in any order, each at most once.
//
//   allow | deny   in | out   new | related   liberal   tcp, udp, icmp ... | proto NUMBER   inside PREFIX
//   remote PREFIX   port PORT | port FROM-TO

import { FLOW_PROTOCOLS } from './protocols.ts'

/** The keys of a rule, with whatever values were written. */
export type RuleWords = Readonly<Record<string, string | number>>

const DIRECTIONS = ['in', 'out']
const STATES = ['new', 'related']
const WINDOWS = ['liberal']
/** Each is followed by its value. */
const NAMED = ['proto', 'inside', 'remote', 'port']

export const RULE_IN_WORDS =
  'a rule such as "deny out tcp port 25": allow or deny; then in or out, new or related, liberal, a protocol, ' +
  'inside PREFIX, remote PREFIX, port PORT or port FROM-TO, as far as they matter'

/** The rule's keys, or what is wrong with the line. Whether the values are allowed is not asked here. */
export function readRule(text: string): RuleWords | { readonly fault: string } {
  const [action = '', ...words] = text.trim().split(/\s+/)
  const rule: Record<string, string | number> = { action }
  while (words.length > 0) {
    const word = words.shift()!
    const key = keyOf(word)
    if (key === undefined) return { fault: `"${word}" is no word of a rule` }
    if (key in rule) return { fault: `${key} is said twice` }
    const value = NAMED.includes(word) ? words.shift() : word
    if (value === undefined) return { fault: `nothing follows "${word}"` }
    rule[key] = key !== 'inside' && key !== 'remote' && /^\d+$/.test(value) ? Number(value) : value
  }
  return rule
}

function keyOf(word: string): string | undefined {
  if (NAMED.includes(word)) return word
  if (DIRECTIONS.includes(word)) return 'direction'
  if (STATES.includes(word)) return 'state'
  if (WINDOWS.includes(word)) return 'windows'
  return word in FLOW_PROTOCOLS ? 'proto' : undefined
}

/** The line that readRule reads again. */
export function ruleText({ action, direction, state, windows, proto, inside, remote, port }: RuleValues): string {
  const protocol = typeof proto === 'number' ? `proto ${proto}` : proto
  const named = Object.entries({ inside, remote, port }).map(([name, value]) => value && `${name} ${value}`)
  return [action, direction, state, windows, protocol, ...named].filter((word) => word !== undefined).join(' ')
}

interface RuleValues {
  readonly action: string
  readonly direction?: string | undefined
  readonly state?: string | undefined
  readonly windows?: string | undefined
  readonly proto?: string | number | undefined
  readonly inside?: string | undefined
  readonly remote?: string | undefined
  readonly port?: string | number | undefined
}
