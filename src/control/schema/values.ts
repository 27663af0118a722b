// What the values of several keys are made of. The text beside each says what is allowed, so that it reads on after
// "allowed: " in an error.

import * as z from 'zod'

export const integer = (from: number, to: number, unit = '') => {
  const allowed = `a whole number from ${from} to ${to}${unit && ` (${unit})`}`
  return z.int(allowed).min(from, allowed).max(to, allowed)
}
export const seconds = () => integer(1, 1_000_000, 'seconds')
export const choice = <const T extends readonly [string, ...string[]]>(...words: T) => z.enum(words, words.join(', '))
export const flag = () => z.boolean('true, false')
/** A mapping. The text says what is allowed in its place; without one, its keys. */
export const section = <T extends z.core.$ZodLooseShape>(shape: T, allowed?: string) =>
  z.strictObject(shape, allowed ?? `keys with values: ${Object.keys(shape).join(', ')}`)

export const interfaces = () => {
  const list = 'a list of one or more interface names, each once, such as [lan0]'
  const name = 'an interface name: 1 to 15 characters, no white space, "/" or ":"'
  return z
    .array(z.string(name).regex(/^(?!\.{1,2}$)[^\s/:]{1,15}$/, name), list)
    .min(1, list)
    .refine((names) => new Set(names).size === names.length, list)
}
