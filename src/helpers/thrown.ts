// What a helper's code has thrown, in words: the message, the place in the helper's own files, the stack. It may be
// anything, also an object whose getters throw, so nothing is taken for granted of it.

import { fileURLToPath } from 'node:url'

export interface Thrown {
  readonly message: string
  /** `/etc/natloom/beacon.mjs:12:9`, if the stack says so: file, line and column. */
  readonly at?: string
  readonly stack?: string
}

/** `    at help (file:///etc/natloom/beacon.mjs?load=1:12:9)`; modules of the older kind have paths instead of URLs. */
const FRAME = /^\s+at (?:.*\(|async )?((?:file:\/\/)?\/[^()]*?)(?:\?load=\d+)?:(\d+):(\d+)\)?$/
/** natloom's own files, compiled or not: a place there says nothing to the author of a helper. */
const OWN = [fileURLToPath(new URL('..', import.meta.url)), fileURLToPath(new URL('../../workers/', import.meta.url))]

const LONGEST = 4000
const short = (text: string): string => (text.length > LONGEST ? `${text.slice(0, LONGEST)}...` : text)

/** Never throws. */
export function describeThrown(thrown: unknown): Thrown {
  try {
    if (!(thrown instanceof Error)) return { message: short(String(thrown)) }
    const message = short(String(thrown.message))
    if (typeof thrown.stack !== 'string') return { message }
    const stack = short(thrown.stack)
    const at = placeOf(stack)
    return { message, ...(at !== undefined && { at }), stack }
  } catch {
    return { message: 'something that has no text' }
  }
}

/** The innermost place outside of natloom. */
function placeOf(stack: string): string | undefined {
  const places = stack.split('\n').flatMap((line) => {
    const [, file, row, column] = FRAME.exec(line) ?? []
    if (file === undefined) return []
    return [`${file.startsWith('file:') ? fileURLToPath(file) : file}:${row}:${column}`]
  })
  return places.find((place) => !OWN.some((folder) => place.startsWith(folder)))
}

/** The message with its place, in a line. */
export const thrownText = ({ message, at }: Thrown): string => (at === undefined ? message : `${message} (at ${at})`)
