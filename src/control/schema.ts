// Every key of natloom.yaml, in the order in which `natloom check` prints them; what is allowed of each, and its
// default, stands in schema/, by section. Environment variables (keys.ts), the check at the start (config.ts) and the
// JSON schema for editors (json-schema.ts) are derived from this. Below the keys: what must hold between several.

import * as z from 'zod'
import { isModulePath } from '../coordinator/helpers/helper-config.ts'
import { faultOfPortForwards } from '../coordinator/port-forwards.ts'
import { readRule } from './filter-text.ts'
import { filter } from './schema/filter.ts'
import { forward, isEndpoint } from './schema/forward.ts'
import { helpers } from './schema/helpers.ts'
import { capacity, icmp, timeouts } from './schema/limits.ts'
import { nat, rangeOf } from './schema/nat.ts'
import { api, log, metrics, name, statePath } from './schema/operation.ts'
import { dispatch, io, supervision, workers } from './schema/threads.ts'
import { interfaces, section } from './schema/values.ts'

/** The key that a section given as one word sets: `timeouts: linux` is `timeouts: { preset: linux }`. */
export const SHORTHANDS: Readonly<Record<string, string>> = { io: 'driver', timeouts: 'preset' }

/**
 * The same for elements of a list: `helpers: [ftp, ./mine.js]` is `helpers: [{ name: ftp }, { path: ./mine.js }]`. Text
 * that is no such element is returned as it is: the check refuses it.
 */
export const ELEMENT_SHORTHANDS: Readonly<Record<string, (text: string) => object | string>> = {
  filter: (text) => {
    const read = readRule(text)
    return 'fault' in read ? text : read
  },
  helpers: (word) => (isModulePath(word) ? { path: word } : { name: word }),
}

const shape = section({
  name,
  inside: interfaces().describe('Interfaces of the hosts behind the gateway.'),
  outside: interfaces().describe('Interfaces towards the rest of the world; translated addresses are theirs.'),
  workers,
  dispatch,
  supervision,
  io,
  nat,
  forward,
  filter,
  helpers,
  timeouts,
  capacity,
  icmp,
  api,
  metrics,
  log,
  statePath,
})

type Shape = z.output<typeof shape>

// These checks run even if single keys are wrong, so that all problems are reported at once; so each of them must check
// the values that it reads.
const always = () => true

export const schema = shape
  .check(
    z.refine((settings: Shape) => sharedInterface(settings) === undefined, {
      when: always,
      path: ['outside'],
      error: (issue) => `other interfaces than inside has: ${sharedInterface(issue.input as Shape)} is on both sides`,
    }),
  )
  .check(
    z.refine((settings: Shape) => holdsABlock(settings), {
      when: always,
      path: ['nat', 'ports'],
      error: 'a range with at least one whole block of nat.blockSize ports',
    }),
  )
  .check(
    z.refine((settings: Shape) => portForwardFault(settings) === undefined, {
      when: always,
      path: ['forward'],
      error: (issue) => portForwardFault(issue.input as Shape),
    }),
  )

/** Checked once each port forward is valid by itself; until then the error of that one is enough. */
function portForwardFault({ forward, nat }: Shape): string | undefined {
  const { pool, ports } = nat ?? {}
  if (!Array.isArray(forward) || !forward.every(isPortForward) || !Array.isArray(pool) || !pool.every(rangeOf))
    return undefined
  if (!Number.isInteger(ports?.from) || !Number.isInteger(ports?.to)) return undefined
  return faultOfPortForwards(forward, pool, ports)
}

const isPortForward = (forward: Partial<Shape['forward'][number]> | null): boolean =>
  (forward?.proto === 'tcp' || forward?.proto === 'udp') &&
  isEndpoint(forward.from ?? '', false) &&
  isEndpoint(forward.to ?? '', true)

function sharedInterface({ inside, outside }: Shape): string | undefined {
  if (!Array.isArray(inside) || !Array.isArray(outside)) return undefined
  return outside.find((name) => inside.includes(name))
}

function holdsABlock({ nat }: Shape): boolean {
  const { from, to } = nat?.ports ?? {}
  const size = nat?.blockSize
  if (!Number.isInteger(from) || !Number.isInteger(to) || !Number.isInteger(size)) return true
  return Math.ceil(from / size) * size + size - 1 <= to
}

/** What a user set, with the defaults that are the same on every host. */
export type Settings = z.output<typeof schema>
