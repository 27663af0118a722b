// What the fuzzed gateway and its reference are both told: external ports, port forwards, timeouts.

import { DEFAULT_TIMEOUTS } from '../../src/conntrack/timeouts.ts'
import type { Dependence } from '../../src/nat/settings.ts'

export const FIRST_PORT = 16384
export const LAST_PORT = 18431

/** Protocols without ports that are translated: GRE, DCCP, UDP-Lite. */
export const PORTLESS = [47, 33, 136]

/** On every address of NAT's. */
export const FORWARDS = [
  { protocol: 6, port: 8080, toAddress: '10.0.0.5', toPort: 8080 },
  { protocol: 17, port: 69, toAddress: '10.0.0.6', toPort: 6900 },
] as const

/**
 * An established connection lives five minutes, no longer than one whose segments are not acknowledged: so how long a
 * connection lives follows from its state alone.
 */
export const TIMEOUTS = { ...DEFAULT_TIMEOUTS, tcp: { ...DEFAULT_TIMEOUTS.tcp, ESTABLISHED: 300 } }

const DEPENDENCES: readonly Dependence[] = ['endpoint-independent', 'address-dependent', 'address-and-port-dependent']

/** @throws RangeError */
export function parseDependence(text: string | undefined): Dependence {
  const found = DEPENDENCES.find((each) => each === text)
  if (found) return found
  throw new RangeError(`filtering ${text}: allowed are ${DEPENDENCES.join(', ')}`)
}
