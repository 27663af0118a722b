// Rows of shared memory, declared once: a layout names the words of a hot line; columns name what lies beside it.
// Code that touches each packet takes the word numbers into constants of its own module: V8 folds those, but loads an
// imported binding each time.

import type { Region } from './region.ts'

/**
 * Names the i32 words of a row that is `width` words long. A name given twice, or beyond the row, is a programming
 * error.
 */
export function layout<const Fields extends Record<string, number>>(width: number, fields: Fields): Readonly<Fields> {
  const seen = new Set<number>()
  for (const [name, word] of Object.entries(fields)) {
    if (seen.has(word) || word < 0 || word >= width)
      throw new RangeError(`word ${word} of ${name} is taken or outside the row`)
    seen.add(word)
  }
  return Object.freeze(fields)
}

type Kind = 'i32' | 'u8'
type Column<K extends Kind> = K extends 'i32' ? Int32Array : Uint8Array
export type Columns<C extends Record<string, Kind>> = { readonly [Name in keyof C]: Column<C[Name]> }

/** One typed array a column; `rows` counts row 0, which is never used. */
export function columns<const C extends Record<string, Kind>>(region: Region, rows: number, kinds: C): Columns<C> {
  const made: Record<string, Int32Array | Uint8Array> = {}
  for (const [name, kind] of Object.entries(kinds)) made[name] = kind === 'i32' ? region.i32(rows) : region.u8(rows)
  return made as Columns<C>
}
