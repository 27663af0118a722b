// The fault points of all layers (fault-points.ts in memory, conntrack, nat, datapath), by what reaches them.

import * as conntrack from '../../src/conntrack/fault-points.ts'
import * as datapath from '../../src/datapath/fault-points.ts'
import * as memory from '../../src/memory/fault-points.ts'
import * as nat from '../../src/nat/fault-points.ts'

/** What any traffic reaches. */
export const FAULT_POINTS = [...memory.ROW_POINTS, ...conntrack.TRACKING_POINTS, ...nat.BINDING_POINTS] as const
/** What only several shards reach, or a hairpin. */
export const HANDOVER_POINTS = datapath.HANDOVER_POINTS
/** What only expectations reach. */
export const EXPECTATION_POINTS = [...conntrack.EXPECTATION_POINTS, ...nat.RESERVATION_POINTS] as const
/** What only helped connections reach. */
export const HELPED_POINTS = [...datapath.HELP_POINTS, ...nat.HELPED_POINTS] as const

export type FaultPoint =
  | memory.MemoryFaultPoint
  | conntrack.ConntrackFaultPoint
  | nat.NatFaultPoint
  | datapath.DatapathFaultPoint
