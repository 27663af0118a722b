// The key `forward`: external ports that belong to servers inside.

import * as z from 'zod'
import { parseEndpoint } from '../../coordinator/port-forwards.ts'
import { choice, section } from './values.ts'

const FROM = ':PORT of every external address, or ADDRESS:PORT of one, such as :21 or 203.0.113.1:21'
const TO = 'ADDRESS:PORT of a server inside, such as 10.0.0.5:21'
const endpoint = (allowed: string, needsAddress: boolean) =>
  z.string(allowed).refine((text) => isEndpoint(text, needsAddress), allowed)

export function isEndpoint(text: string, needsAddress: boolean): boolean {
  try {
    return parseEndpoint(text).address !== null || !needsAddress
  } catch {
    return false
  }
}

const portForwards = () =>
  z.array(
    section({
      proto: choice('tcp', 'udp').describe('tcp or udp.'),
      from: endpoint(FROM, false).describe('`:21` of every external address, `203.0.113.1:21` of one.'),
      to: endpoint(TO, true).describe('`10.0.0.5:21`, the server inside.'),
    }),
    'a list of forwards, each { proto: tcp, from: :21, to: 10.0.0.5:21 }',
  )

export const forward = portForwards()
  .default([])
  .describe('External ports that belong to servers inside; as a variable `tcp :21 10.0.0.5:21`, separated by commas.')
