// The key `forward`: external ports that belong to servers inside.

import * as z from 'zod'
import { noHostsAddress } from '../../coordinator/address-range.ts'
import { parseEndpoint } from '../../coordinator/port-forwards.ts'
import { hint } from './addresses.ts'
import { choice, section } from './values.ts'

/** The host's rules name each of them. */
const MAX_FORWARDS = 4096

const FORWARD = 'a forward such as tcp :21 10.0.0.5:21, in the file { proto: tcp, from: :21, to: 10.0.0.5:21 }'

const FROM = ':PORT of every external address, or ADDRESS:PORT of one, such as :21 or 203.0.113.1:21'
const TO = 'ADDRESS:PORT of a server inside, such as 10.0.0.5:21'
const endpoint = (allowed: string, needsAddress: boolean) =>
  z.string(allowed).refine((text) => endpointFault(text, needsAddress) === undefined, {
    error: (issue) => `${allowed}${endpointFault(issue.input as string, needsAddress)}`,
  })

export const isEndpoint = (text: string, needsAddress: boolean): boolean =>
  endpointFault(text, needsAddress) === undefined

/** What is wrong with an endpoint, to be read on after what is allowed; undefined if nothing is. */
function endpointFault(text: string, needsAddress: boolean): string | undefined {
  try {
    const { address } = parseEndpoint(text)
    if (address === null) return needsAddress ? '; it names no server' : undefined
    const why = noHostsAddress(address)
    return why && `; ${why}`
  } catch {
    const [, address = '', port = ''] = /^(.*):([^:\]]*)$/.exec(text) ?? []
    if (/[[:]/.test(address)) return "; IPv6 isn't translated"
    if (port === '')
      return /^[1-9]\d{0,4}$/.test(text) && !needsAddress ? `; did you mean :${text}?` : '; it has no port'
    if (!/^[1-9]\d{0,4}$/.test(port) || Number(port) > 65_535) return '; a port is a number from 1 to 65535'
    return hint(address)
  }
}

const portForwards = () =>
  z
    .array(
      section(
        {
          proto: choice('tcp', 'udp').describe('tcp or udp.'),
          from: endpoint(FROM, false).describe('`:21` of every external address, `203.0.113.1:21` of one.'),
          to: endpoint(TO, true).describe('`10.0.0.5:21`, the server inside.'),
        },
        FORWARD,
      ),
      'a list of forwards, each { proto: tcp, from: :21, to: 10.0.0.5:21 }',
    )
    .max(MAX_FORWARDS, {
      error: (issue) => `at most ${MAX_FORWARDS} forwards, these are ${(issue.input as unknown[]).length}`,
    })

export const forward = portForwards()
  .default([])
  .describe('External ports that belong to servers inside; as a variable `tcp :21 10.0.0.5:21`, separated by commas.')
