// This shard's copy of the configuration's filter (filter-rules.ts), asked once for each flow, when its connection is
// about to be made and before anything of it exists: no port, no mapping, no row. The flows of a helper's expectations
// are asked about like any others. A flow that is denied leaves nothing behind, so the next packet is asked about too.
// Owner: this thread; a copy of what is configured.

import { EXPECTED } from '../conntrack/connection-table.ts'
import { type KeyWord, protocolIn } from '../conntrack/terms.ts'
import type { Addr, Port } from '../wire/address.ts'
import { ntohs } from '../wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import {
  ALLOW_LIBERALLY,
  compileRules,
  DENY,
  type FilterRule,
  NO_PORT,
  RELATED_BIT,
  verdictBy,
} from './filter-rules.ts'

let words: Int32Array = compileRules([])
/** What isDenied() was asked about last is to be tracked without a look at TCP's windows. */
export let isLiberal = false

export function attachFilter(rules: readonly FilterRule[]): void {
  words = compileRules(rules)
}

/**
 * Whether the flow may not be opened. `key` names the side that opens it, `flags` are those that its connection will
 * have (EXPECTED or 0), `port` is the one that it is opened to, as loaded.
 */
export function isDenied(key: KeyWord, flags: number, inside: Addr, remote: Addr, port: Port): boolean {
  isLiberal = false
  if (words.length === 0) return false
  const protocol = protocolIn(key)
  const hasPort = protocol === PROTO_TCP || protocol === PROTO_UDP
  const asked = flags === EXPECTED ? key | RELATED_BIT : key
  const verdict = verdictBy(words, asked, inside, remote, hasPort ? ntohs(port) : NO_PORT)
  isLiberal = verdict === ALLOW_LIBERALLY
  return verdict === DENY
}
