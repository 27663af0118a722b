// What a helper says of itself (helper.ts), read by whoever loads or registers one: what is wrong with it, and what
// holds where it says nothing.

import type { ExpectClass, Helper, HelperMask, HelperTuple } from './helper.ts'

/** A tuple to be bound to; several of them serve several ports or servers. */
export interface Binding {
  readonly tuple: HelperTuple
  readonly mask?: HelperMask | undefined
}

/**
 * What becomes of an announcement that can't be rewritten: its connection ends, a datagram is dropped; or it goes on as
 * it is.
 */
export const ON_HELPER_FAILURE = ['reset', 'pass'] as const
export type OnHelperFailure = (typeof ON_HELPER_FAILURE)[number]

/** More helpers than anybody needs; a helper's number is a byte. */
export const MOST_HELPERS = 255
export const MOST_CLASSES = 4
const DEFAULT_CLASS = { maxExpected: 1, timeoutSeconds: 300 }
const NAME = /^[a-z][a-z0-9-]{0,14}$/

/** What is wrong with a helper, in words; undefined if nothing is. */
export function helperFault(helper: Helper): string | undefined {
  if (typeof helper !== 'object' || helper === null) return 'a helper is an object with name, tuple and help()'
  if (typeof helper.name !== 'string' || !NAME.test(helper.name))
    return (
      `name ${JSON.stringify(helper.name)}: a letter, then letters, digits and hyphens, ` +
      'at most 15 in all, lower case'
    )
  if (helper.tuple?.proto !== 'tcp' && helper.tuple?.proto !== 'udp') return `tuple.proto: 'tcp' or 'udp'`
  if (typeof helper.help !== 'function') return 'help: a function of the context'
  const classes = classesOf(helper)
  if (classes.length < 1 || classes.length > MOST_CLASSES) return `classes: 1 to ${MOST_CLASSES} of them`
  for (const { maxExpected, timeoutSeconds } of classes) {
    if (!isWhole(maxExpected, 1, 255)) return `maxExpected ${maxExpected}: a whole number from 1 to 255`
    if (!isWhole(timeoutSeconds, 1, 65535)) return `timeoutSeconds ${timeoutSeconds}: a whole number from 1 to 65535`
  }
  return undefined
}

const isWhole = (value: number, from: number, to: number): boolean =>
  Number.isInteger(value) && value >= from && value <= to

/** Its classes of expectations; one, if it names none. */
export const classesOf = (helper: Helper): readonly ExpectClass[] =>
  helper.classes ?? [
    {
      name: 'default',
      maxExpected: helper.maxExpected ?? DEFAULT_CLASS.maxExpected,
      timeoutSeconds: helper.expectTimeoutSeconds ?? DEFAULT_CLASS.timeoutSeconds,
    },
  ]
