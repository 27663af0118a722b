// What a configuration, the command line and the API may say of a helper: the name of a built-in one or the path of a
// module, and addresses of servers.

import { isAbsolute, resolve } from 'node:path'
import { BUILTIN } from '../../helpers/builtin.ts'
import { ON_HELPER_FAILURE } from '../../helpers/declaration.ts'
import { parseAddress, parsePrefix } from '../../wire/address.ts'

export const BUILTIN_HELPERS: readonly string[] = Object.keys(BUILTIN)

/** What may become of an announcement that can't be rewritten. */
export const ON_FAILURE = ON_HELPER_FAILURE

/** Whether the text is the path of a module, and not a name: it begins with `/`, `./` or `../`. */
export const isModulePath = (text: string): boolean => isAbsolute(text) || /^\.{1,2}\//.test(text)

/** The absolute path of a module, relative to a folder; a name is returned as it is. */
export const moduleAt = (folder: string, text: string): string => (isModulePath(text) ? resolve(folder, text) : text)

/** Whether the text is an address, or a prefix without bits behind its length. */
export function isServer(text: string): boolean {
  try {
    if (text.includes('/')) parsePrefix(text)
    else parseAddress(text)
    return true
  } catch {
    return false
  }
}
