// This shard's copy of the configuration's filter (filter-rules.ts), asked once for each flow, when its connection is
// about to be made and before anything of it exists: no port, no mapping, no row. The flows of a helper's expectations
// are asked about like any others. A flow that is denied leaves nothing behind, so the next packet is asked about too.
// Owner: this thread; a copy of what is configured.

import { EXPECTED } from '../conntrack/connection-table.ts'
import { type KeyWord, protocolIn } from '../conntrack/terms.ts'
import type { Addr, Port } from '../wire/address.ts'
import { ntohs } from '../wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import { allowedBy, compileRules, type FilterRule, NO_PORT, RELATED_BIT } from './filter-rules.ts'

let words: Int32Array = compileRules([])

export function attachFilter(rules: readonly FilterRule[]): void {
  words = compileRules(rules)
}

/**
 * Whether the flow may not be opened. `key` names the side that opens it, `flags` are those that its connection will
 * have (EXPECTED or 0), `port` is the one that it is opened to, as loaded.
 */
export function isDenied(key: KeyWord, flags: number, inside: Addr, remote: Addr, port: Port): boolean {
  if (words.length === 0) return false
  const protocol = protocolIn(key)
  const hasPort = protocol === PROTO_TCP || protocol === PROTO_UDP
  return !allowedBy(
    words,
    flags === EXPECTED ? key | RELATED_BIT : key,
    inside,
    remote,
    hasPort ? ntohs(port) : NO_PORT,
  )
}
