// How the gateway is operated: `name`, the sections `api`, `metrics` and `log`, and `statePath`.

import * as z from 'zod'
import { DEFAULT_NAME } from '../../coordinator/config.ts'
import { parseListen } from '../../metrics/listen.ts'
import { choice, section } from './values.ts'

const LISTEN = 'address:port, such as 127.0.0.1:9464, [::1]:9464 or 0.0.0.0:9464'

const NAME =
  'up to 32 lower-case letters, digits, - and _, of which the first is a letter, not ending in -owned or -meanwhile'

export const name = z
  .string(NAME)
  .regex(/^[a-z][a-z0-9_-]{0,31}(?<!-owned|-meanwhile)$/, NAME)
  .default(DEFAULT_NAME)
  .describe('Tells several gateways of one host apart: names their nft tables and the folder of their files.')

/** unix(7): a path has 108 bytes with its terminating zero. */
const MAX_SOCKET_PATH = 107
const SOCKET = `an absolute path of a file, of at most ${MAX_SOCKET_PATH} bytes`
const FILE = 'an absolute path of a file'
/** Begins at the root, and ends in a name. */
const FILE_PATH = /^\/(.*[^/])?[^/]$/s

export const api = section({
  socket: z
    .string(SOCKET)
    .regex(FILE_PATH, SOCKET)
    .refine((path) => Buffer.byteLength(path) <= MAX_SOCKET_PATH, SOCKET)
    .optional()
    .describe(
      'The unix socket that the command line finds the running gateway by; only its own user may connect. By default ' +
        '/run/natloom/api.sock, or /run/natloom/NAME/api.sock for another name.',
    ),
}).prefault({})

export const metrics = section({
  listen: z
    .string(LISTEN)
    .refine((text) => parseListen(text) !== undefined, LISTEN)
    .default('127.0.0.1:9464')
    .describe('Where /metrics and /healthz are served.'),
}).prefault({})

export const log = section({
  level: choice('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent').default('info'),
  format: choice('auto', 'json', 'text').default('auto').describe('auto: text on a terminal, JSON elsewhere.'),
}).prefault({})

export const statePath = z
  .string(FILE)
  .regex(FILE_PATH, FILE)
  .optional()
  .describe(
    'Where the next start finds what a killed gateway could not take back. By default /run/natloom/state.json, or ' +
      '/run/natloom/NAME/state.json for another name.',
  )
