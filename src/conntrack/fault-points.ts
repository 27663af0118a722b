// Where a test may crash a shard in the tables of connections, mappings, permissions and expectations: between two
// steps of a change that is more than one store. Each name says what has just been done; what a crash there leaves
// behind, and who mends it, is in the README of this folder. In the product the function is empty
// (memory/no-faults.ts).

import { faultPoint } from '#faults'

/** Connections, mappings, permissions. */
export const TRACKING_POINTS = [
  'connection found by its original tuple only',
  'connection lost by its original tuple only',
  'connection lost by both tuples',
  'host counted, no connection',
  'connection gone, its host counted',
  'hosts counted anew, not in force',
  'reply noted',
  'state changed',
  'mapping found by its inside end only',
  'mapping lost by its inside end only',
  'mapping ended',
  'host counted, no mapping',
  'mapping gone, its host counted',
  'permission made',
  'permission counted',
  'permission withdrawn',
] as const

/** Those that only expectations reach. */
export const EXPECTATION_POINTS = [
  'expectation counted, no slot',
  'slot busy, nothing in it',
  'slot written, not settled',
  'slot settled, not in force',
  'slot hung by its inside end',
  'slot pending, not listed',
  'slot refreshed',
  'slot claimed',
  'slot put back',
  'slot ending',
  'slot about to be freed',
  'slot free, still counted',
  'slot free, its port reserved',
] as const

export type ConntrackFaultPoint = (typeof TRACKING_POINTS)[number] | (typeof EXPECTATION_POINTS)[number]

/** Does nothing, but in tests that crash shards. */
export const fault: (point: ConntrackFaultPoint) => void = faultPoint
