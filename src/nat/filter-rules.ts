// What the configuration's `filter` says of new flows, as numbers: an ordered list of which the first rule that matches
// decides; a flow that none matches is allowed. It takes the place of netfilter's FORWARD chain, which natloom's
// packets never meet (docs/decisions/0038). Each shard asks it in filter.shard.ts. Owner: the coordinator, which posts
// the list to the shards at their start.
//
// A rule sees a flow as the FORWARD chain of a NAT gateway does: its inside endpoint untranslated, the remote endpoint
// as it is, and as port the one that the flow is opened to: the remote one's if it is opened from inside, the inside
// one's if it is opened from outside, after a port forward or a mapping has translated it.

import type { Side } from '../conntrack/terms.ts'
import type { Addr, PortHost, Prefix, ProtocolNumber } from '../wire/address.ts'

export interface FilterRule {
  readonly allows: boolean
  /** TCP's windows are not enforced for the flows that it allows. */
  readonly isLiberal: boolean
  /** The side that the flow is opened from; null: either. */
  readonly openedFrom: Side | null
  /** True: only flows that a helper has announced (netfilter's RELATED); false: only others; null: all. */
  readonly related: boolean | null
  /** null: every protocol. */
  readonly protocol: ProtocolNumber | null
  readonly inside: Prefix
  readonly remote: Prefix
  /** Both ends included; null: every flow, also of protocols without ports. */
  readonly ports: { readonly from: PortHost; readonly to: PortHost } | null
}

/** A rule as eight words, so that a comparison is two loads and no call. */
const RULE_WORDS = 8
const [KEY, KEY_MASK, INSIDE, INSIDE_MASK, REMOTE, REMOTE_MASK, PORTS, VERDICT] = [0, 1, 2, 3, 4, 5, 6, 7]

// The key of a flow: conntrack's key word (protocol in bits 0-7, side in bit 8), and one more bit.
const PROTOCOL_BITS = 0xff
const SIDE_BIT = 1 << 8
export const RELATED_BIT = 1 << 9

/** The port of a flow that has none: below every range but the one of a rule without ports. */
export const NO_PORT = 0
const EVERY_PORT = { from: NO_PORT, to: 0xffff }

/** What a list says of a flow. */
export const DENY = 0
export const ALLOW = 1
/** And TCP's windows are not enforced for it. */
export const ALLOW_LIBERALLY = 2
export type FilterVerdict = typeof DENY | typeof ALLOW | typeof ALLOW_LIBERALLY

/** The list as the words that `verdictBy` reads. */
export function compileRules(rules: readonly FilterRule[]): Int32Array {
  const words = new Int32Array(rules.length * RULE_WORDS)
  for (const [i, { allows, isLiberal, openedFrom, related, protocol, inside, remote, ports }] of rules.entries()) {
    const { from, to } = ports ?? EVERY_PORT
    const at = i * RULE_WORDS
    words[at + KEY] = (protocol ?? 0) | (openedFrom ? SIDE_BIT : 0) | (related ? RELATED_BIT : 0)
    words[at + KEY_MASK] =
      (protocol === null ? 0 : PROTOCOL_BITS) |
      (openedFrom === null ? 0 : SIDE_BIT) |
      (related === null ? 0 : RELATED_BIT)
    words[at + INSIDE] = inside.address
    words[at + INSIDE_MASK] = inside.mask
    words[at + REMOTE] = remote.address
    words[at + REMOTE_MASK] = remote.mask
    words[at + PORTS] = from | (to << 16)
    words[at + VERDICT] = !allows ? DENY : isLiberal ? ALLOW_LIBERALLY : ALLOW
  }
  return words
}

/** What the first rule that matches this flow says; ALLOW if none matches. */
export function verdictBy(words: Int32Array, key: number, inside: Addr, remote: Addr, port: PortHost): FilterVerdict {
  for (let at = 0; at < words.length; at += RULE_WORDS) {
    const ports = words[at + PORTS]!
    if (
      (key & words[at + KEY_MASK]!) === words[at + KEY] &&
      (inside & words[at + INSIDE_MASK]!) === words[at + INSIDE] &&
      (remote & words[at + REMOTE_MASK]!) === words[at + REMOTE] &&
      port >= (ports & 0xffff) &&
      port <= ports >>> 16
    )
      return words[at + VERDICT] as FilterVerdict
  }
  return ALLOW
}
