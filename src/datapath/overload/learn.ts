// Whose the packets are that were kept of a shared queue, learned once they have gone through the pipeline: who has
// sent one of an established connection is known from then on (known-hosts.ts). Owner: this thread.

import { ASSURED, baseOf } from '../../conntrack/connection-table.ts'
import { cold, insideHostOf, matches, originOf, stateWordOf } from '../../conntrack/connections.shard.ts'
import { INSIDE, rowOf } from '../../conntrack/terms.ts'
import type { Row } from '../../memory/brand.ts'
import { now } from '../../memory/clock.ts'
import { DST, FLOW, KEY, KIND, PORTS, REF, SRC, side } from '../packet/burst.ts'
import { remember } from './known-hosts.ts'
import { chosen, forgetSenders, SENDER } from './shed.ts'

/** Seconds: longer than a flood takes to show, shorter than people wait. */
const SETTLED_AFTER = 2

/** Of the burst in hand, whose packets have been settled. */
export function learnSenders(): void {
  for (let i = 0; i < chosen; i++) {
    const ref = REF[i]!
    // A packet that is no flow's has whatever an earlier burst has left there.
    if (KIND[i]! > FLOW || ref === 0 || !matches(ref, KEY[i]!, SRC[i]!, DST[i]!, PORTS[i]!)) continue
    const row = rowOf(ref)
    if (isEstablished(row)) remember(side, SENDER[i]!, insideHostOf(row))
  }
  forgetSenders()
}

/** Assured; or the host's own and no newcomer, since what is sent one way alone is never assured. */
const isEstablished = (row: Row): boolean =>
  (stateWordOf(baseOf(row)) & ASSURED) !== 0 || (originOf(row) === INSIDE && now - cold.created[row]! >= SETTLED_AFTER)
