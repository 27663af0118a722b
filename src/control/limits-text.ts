// A rule of the key `limits` as one line: `inside 10.0.0.0/24 connections 2000 ports 500`. It is how the environment
// variable and the output of `natloom check` write it; natloom.yaml takes it too. Each word is followed by its value,
// in any order, each at most once.

import type { HostLimitsConfig } from '../coordinator/config.ts'
import { limitKeys } from '../coordinator/host-limits.ts'

const NAMES: readonly string[] = ['inside', ...limitKeys]

export const LIMITS_IN_WORDS =
  'limits such as "inside 10.0.0.0/24 connections 2000": inside PREFIX for whom they are, without it everybody; then ' +
  `${limitKeys.join(', ')}, each followed by a number, as far as they are not to be the default`

/** The rule's keys, or what is wrong with the line. Whether the values are allowed is not asked here. */
export function readLimits(text: string): Record<string, string | number> | { readonly fault: string } {
  const words = text.trim().split(/\s+/)
  const rule: Record<string, string | number> = {}
  while (words.length > 0) {
    const name = words.shift()!
    if (!NAMES.includes(name)) return { fault: `"${name}" is no word of it` }
    if (name in rule) return { fault: `${name} is said twice` }
    const value = words.shift()
    if (value === undefined) return { fault: `nothing follows "${name}"` }
    rule[name] = name !== 'inside' && /^\d+$/.test(value) ? Number(value) : value
  }
  return rule
}

/** The line that readLimits reads again; a rule that says nothing is of everybody. */
export function limitsText(rule: HostLimitsConfig): string {
  const words = NAMES.flatMap((name) => {
    const value = (rule as Record<string, unknown>)[name]
    return value === undefined ? [] : [`${name} ${value}`]
  })
  return words.length === 0 ? 'inside 0.0.0.0/0' : words.join(' ')
}
