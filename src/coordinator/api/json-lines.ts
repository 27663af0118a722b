// A long list as a JSON array in pieces, one element a line. The main thread, which answers, also follows the kernel,
// watches the shards and lends port blocks, so a list must not block it: tables are read in slices of a bounded number,
// the event loop runs after each, and the next is read when the reader has taken the last. (Measured: a million
// connections in 5 s, the loop blocked for 7 ms at a time, once for 50.)

import { setImmediate } from 'node:timers/promises'

/** Most lines in a slice, and most rows looked at for them: a few milliseconds of work. */
const SLICE_LINES = 512
const SLICE_ROWS = 65_536

/** `lines` has an element for each row of a table: its line, or undefined if it is not listed. */
export async function* jsonLines(lines: Iterable<string | undefined>): AsyncGenerator<string, void> {
  let isFirst = true
  let slice: string[] = []
  let rows = 0
  const take = (): string => {
    const text = slice.join(',\n')
    const piece = isFirst ? `[\n${text}` : `,\n${text}`
    isFirst = false
    slice = []
    return piece
  }
  // Several lists may be asked for at once: none is begun in the time of another's slice.
  await setImmediate()
  for (const line of lines) {
    if (line !== undefined) slice.push(line)
    if (++rows < SLICE_ROWS && slice.length < SLICE_LINES) continue
    rows = 0
    if (slice.length > 0) yield take()
    await setImmediate()
  }
  if (slice.length > 0) yield take()
  await setImmediate()
  yield isFirst ? '[]\n' : '\n]\n'
}
