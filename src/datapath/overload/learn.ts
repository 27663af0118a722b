// Whose the packets are that were kept of a shared queue, learned once they have gone through the pipeline: who has
// sent one of an assured connection is known from then on (known-hosts.ts). Owner: this thread.

import { ASSURED, baseOf } from '../../conntrack/connection-table.ts'
import { insideHostOf, matches, stateWordOf } from '../../conntrack/connections.shard.ts'
import { rowOf } from '../../conntrack/terms.ts'
import { DST, FLOW, KEY, KIND, PORTS, REF, SRC, side } from '../packet/burst.ts'
import { remember } from './known-hosts.ts'
import { chosen, forgetSenders, SENDER } from './shed.ts'

/** Of the burst in hand, whose packets have been settled. */
export function learnSenders(): void {
  for (let i = 0; i < chosen; i++) {
    const ref = REF[i]!
    // A packet that is no flow's has whatever an earlier burst has left there.
    if (KIND[i]! > FLOW || ref === 0 || !matches(ref, KEY[i]!, SRC[i]!, DST[i]!, PORTS[i]!)) continue
    const row = rowOf(ref)
    if ((stateWordOf(baseOf(row)) & ASSURED) !== 0) remember(side, SENDER[i]!, insideHostOf(row))
  }
  forgetSenders()
}
