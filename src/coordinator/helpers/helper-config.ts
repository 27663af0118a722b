// What a configuration may say of helpers: names of built-in ones, paths of modules, addresses of servers.

import { isAbsolute, resolve } from 'node:path'
import { BUILTIN } from '../../helpers/builtin.ts'
import { parseAddress, parsePrefix } from '../../wire/address.ts'

export const BUILTIN_HELPERS: readonly string[] = Object.keys(BUILTIN)

/** A name has neither a slash nor a dot in front. */
export const isModulePath = (text: string): boolean => isAbsolute(text) || /^\.{1,2}\//.test(text)

/** The absolute path of a module; what is no path is a name, and stays. */
export const moduleAt = (folder: string, text: string): string => (isModulePath(text) ? resolve(folder, text) : text)

/** An address, or a prefix without bits behind its length. */
export function isServer(text: string): boolean {
  try {
    if (text.includes('/')) parsePrefix(text)
    else parseAddress(text)
    return true
  } catch {
    return false
  }
}
