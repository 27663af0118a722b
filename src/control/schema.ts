// Every key of natloom.yaml, in the order in which `natloom check` prints them; what is allowed of each, and its
// default, stands in schema/, by section. Environment variables (keys.ts), the check at the start (config.ts) and the
// JSON schema for editors (json-schema.ts) are derived from this.
// What must hold between several of them is in schema/whole.ts.

import type * as z from 'zod'
import { isModulePath } from '../coordinator/helpers/helper-config.ts'
import { readRule } from './filter-text.ts'
import { readLimits } from './limits-text.ts'
import { filter } from './schema/filter.ts'
import { forward } from './schema/forward.ts'
import { helpers, onHelperFailure } from './schema/helpers.ts'
import { limits } from './schema/host-limits.ts'
import { capacity, icmp, tcp, timeouts } from './schema/limits.ts'
import { nat } from './schema/nat.ts'
import { api, log, metrics, name, statePath } from './schema/operation.ts'
import { dispatch, io, supervision, workers } from './schema/threads.ts'
import { interfaces, section } from './schema/values.ts'
import { wholeRules } from './schema/whole.ts'

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
  limits: (text) => {
    const read = readLimits(text)
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
  limits,
  helpers,
  onHelperFailure,
  timeouts,
  tcp,
  capacity,
  icmp,
  api,
  metrics,
  log,
  statePath,
})

export const schema = shape.check(...wholeRules)

/** What a user set, with the defaults that are the same on every host. */
export type Settings = z.output<typeof schema>
