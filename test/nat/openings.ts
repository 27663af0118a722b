// Connections that inside ends open, as far as a test wants them to come.

import type { Gateway } from '../datapath/gateway.ts'
import { SERVER } from '../datapath/network.ts'
import { fromOf, tcpSegment } from '../datapath/packets.ts'
import { connectionsOf } from '../datapath/tables.ts'

export const TO = `${SERVER}:443`

type Upto = 'syn' | 'half-open' | 'established' | 'half-closed' | 'last-ack' | 'time-wait' | 'reset'

/** A connection that an inside end opens, as far as it is to come; its external end. */
export function open(gateway: Gateway, inside: string, upto: Upto = 'established', to = TO): string {
  const [syn] = gateway.inside(tcpSegment(inside, to, 'S'))
  if (!syn) return 'refused'
  const external = fromOf(syn)
  if (upto === 'syn') return external
  gateway.outside(tcpSegment(to, external, 'SA'))
  if (upto === 'half-open') return external
  gateway.inside(tcpSegment(inside, to, 'A'))
  if (upto === 'reset') gateway.outside(tcpSegment(to, external, 'R'))
  if (upto === 'established' || upto === 'reset') return external
  gateway.inside(tcpSegment(inside, to, 'FA'))
  if (upto === 'half-closed') return external
  gateway.outside(tcpSegment(to, external, 'FA'))
  if (upto === 'time-wait') gateway.inside(tcpSegment(inside, to, 'A'))
  return external
}

/** True if a connection from this endpoint is there. */
export const has = (gateway: Gateway, from: string): boolean =>
  connectionsOf(gateway.tables).some(({ original }) => original.startsWith(`${from} > `))
