// The key `helpers`: which protocols are followed, by built-in helpers and by modules of users.

import * as z from 'zod'
import { BUILTIN_HELPERS, isModulePath, isServer } from '../../coordinator/helpers/helper-config.ts'
import { alike, nearest } from '../nearest.ts'
import { integer, section } from './values.ts'

const PATH = 'the path of a module, which begins with ./, ../ or /'
const SERVER = 'an IPv4 address, or a prefix without bits behind its length (192.0.2.0/24)'

/** The names that are allowed and, where one is near, the name that was probably meant. */
function helperNames(written: unknown): string {
  const names = `${BUILTIN_HELPERS.join(', ')}, or ${PATH}`
  const meant = nearest(String(written), BUILTIN_HELPERS, (name) => name)
  return meant !== undefined && alike(String(written), meant) ? `${names}; did you mean ${meant}?` : names
}

const list = () =>
  z
    .array(
      section({
        name: z
          .string('a name')
          .refine((name) => BUILTIN_HELPERS.includes(name), { error: (issue) => helperNames(issue.input) })
          .optional()
          .describe('A built-in helper.'),
        path: z
          .string(PATH)
          .refine(isModulePath, PATH)
          .optional()
          .describe("A module of one's own; relative to the configuration file."),
        ports: z
          .array(integer(1, 65_535), 'a list of ports')
          .min(1, 'at least one port')
          .optional()
          .describe("The servers' ports, instead of the helper's own."),
        servers: z
          .array(z.string(SERVER).refine(isServer, SERVER), 'a list of addresses and prefixes')
          .min(1, 'at least one address or prefix')
          .optional()
          .describe('Only connections to these; without it, to all servers.'),
        options: z
          .record(z.string(), z.unknown(), 'a mapping of keys to values')
          .optional()
          .describe("The helper's own."),
      }).refine(({ name, path }) => (name === undefined) !== (path === undefined), 'a name or a path, one of them'),
      'a list of helpers, each a name, a path, or a mapping with one of them',
    )
    .refine((list) => new Set(list.map(({ name, path }) => name ?? path)).size === list.length, 'each helper once')

export const helpers = list()
  .default([{ name: 'ftp' }])
  .describe('Protocols that are followed: names of helpers, paths of modules, or mappings with ports and servers.')
