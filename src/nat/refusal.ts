// Why no connection was made of the packet in hand. A function that makes a connection or a mapping returns its row,
// and row 0 if there is none: then the verdict on the packet stands here, nearly always a drop reason (netfilter hands
// it through as NF_DROP_ERR). One variable for all of them, so that a row and a verdict are never told apart by their
// size.
//
// Owner: this thread.

import { ACCEPT, type Verdict } from '../conntrack/terms.ts'
import type { Row } from '../memory/brand.ts'

/** What becomes of the packet that no connection was made for; read it at once after a function has returned row 0. */
export let refusal: Verdict = ACCEPT

/** No connection is made, for this reason: the row to return. */
export function refuse(verdict: Verdict): Row {
  refusal = verdict
  return 0
}
