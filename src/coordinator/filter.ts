// The rules of the configuration's key `filter`, such as `{ action: deny, port: 25 }`, read into numbers. What a rule
// does to a flow is in nat/filter-rules.ts; how it is written in one line is in control/filter-text.ts.

import { INSIDE, OUTSIDE } from '../conntrack/terms.ts'
import type { FilterRule } from '../nat/filter-rules.ts'
import { type Prefix, parsePrefix } from '../wire/address.ts'

export interface FilterRuleConfig {
  readonly action: 'allow' | 'deny'
  /** `out`: flows opened from inside, `in`: flows opened from outside; without it both. */
  readonly direction?: 'in' | 'out' | undefined
  /** `related`: flows that a helper has announced, `new`: the others; without it both. */
  readonly state?: 'new' | 'related' | undefined
  /** `liberal`: TCP's windows are not enforced for the flows that it allows. */
  readonly windows?: 'liberal' | undefined
  /** A protocol's number; without it all protocols. */
  readonly proto?: number | undefined
  /** An address or a prefix; without it all. */
  readonly inside?: string | undefined
  readonly remote?: string | undefined
  /** A port of TCP or UDP, or a range a-b: the one that the flow is opened to. */
  readonly port?: number | string | undefined
}

const EVERYWHERE = '0.0.0.0/0'
const PORTS = /^([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?$/
const HIGHEST_PORT = 65535

/** Throws RangeError for text that is neither a port nor a range whose end is not below its beginning. */
export function parsePorts(text: string): { from: number; to: number } {
  const [, first, last = first] = PORTS.exec(text) ?? []
  const range = { from: Number(first), to: Number(last) }
  if (!(range.from <= range.to && range.to <= HIGHEST_PORT)) throw new RangeError(`"${text}" is no port or range a-b`)
  return range
}

const prefixOf = (text: string): Prefix => parsePrefix(text.includes('/') ? text : `${text}/32`)

/** Throws RangeError for a rule that the configuration's schema refuses. */
export const parseFilterRule = (rule: FilterRuleConfig): FilterRule => ({
  allows: rule.action === 'allow',
  isLiberal: rule.windows === 'liberal',
  openedFrom: rule.direction === undefined ? null : rule.direction === 'out' ? INSIDE : OUTSIDE,
  related: rule.state === undefined ? null : rule.state === 'related',
  protocol: rule.proto ?? null,
  inside: prefixOf(rule.inside ?? EVERYWHERE),
  remote: prefixOf(rule.remote ?? EVERYWHERE),
  ports: rule.port === undefined ? null : parsePorts(String(rule.port)),
})
