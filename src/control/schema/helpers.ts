// The key `helpers`: which protocols are followed, by built-in helpers and by modules of users.

import * as z from 'zod'
import { BUILTIN_HELPERS, isModulePath, ON_FAILURE } from '../../coordinator/helpers/helper-config.ts'
import { alike, nearest } from '../nearest.ts'
import { isPrefix, PREFIX, prefixText } from './addresses.ts'
import { choice, integer, section } from './values.ts'

const HELPER = 'a name, a path, or a mapping with one of them'
const PATH = 'the path of a module, which begins with ./, ../ or /'

/** The names that are allowed and, where one is near, the name that was probably meant. */
export function helperNames(written: unknown): string {
  const names = `${BUILTIN_HELPERS.join(', ')}, or ${PATH}`
  const [text = '', ...more] = String(written)
    .trim()
    .split(/[\s=:]+/)
  const meant = nearest(text, BUILTIN_HELPERS, (name) => name)
  if (meant === undefined || !alike(text, meant)) return /[./]/.test(text) ? `${names}; did you mean ./${text}?` : names
  if (more.length === 0) return `${names}; did you mean ${meant}?`
  return `${names}; ports and servers can be said in the file alone: { name: ${meant}, ports: [${more.join(', ')}] }`
}

const eachOnce = (list: readonly unknown[]): boolean => new Set(list).size === list.length

const list = () =>
  z
    .array(
      section(
        {
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
            .refine(eachOnce, 'each port once')
            .optional()
            .describe("The servers' ports, instead of the helper's own."),
          servers: z
            .array(
              z.string(PREFIX).refine(isPrefix, { error: (issue) => prefixText(issue.input) }),
              'a list of addresses and prefixes',
            )
            .min(1, 'at least one address or prefix')
            .refine(eachOnce, 'each address or prefix once')
            .optional()
            .describe('Only connections to these; without it, to all servers.'),
          options: z.record(z.string(), z.unknown(), 'keys with values').optional().describe("The helper's own."),
          onFailure: choice(...ON_FAILURE)
            .optional()
            .describe('What onHelperFailure is for this helper.'),
        },
        HELPER,
      ).refine(({ name, path }) => (name === undefined) !== (path === undefined), 'a name or a path, one of them'),
      `a list, each element ${HELPER}`,
    )
    .refine((list) => eachOnce(list.map(({ name, path }) => name ?? path)), 'each helper once')

export const helpers = list()
  .default([{ name: 'ftp' }])
  .describe('Protocols that are followed: names of helpers, paths of modules, or mappings with ports and servers.')

export const onHelperFailure = choice(...ON_FAILURE)
  .default('reset')
  .describe(
    'An announcement that a helper cannot rewrite any more, with the inside address in it: reset ends its connection ' +
      'and drops a datagram, pass lets it go out as it is.',
  )
