// Numbers on the command lines of the benches.

/** A whole number of at least `least`. Throws RangeError. */
export function wholeNumber(option: string, text: string, least = 1): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= least) return value
  throw new RangeError(`${option} ${text}: a whole number ${least > 0 ? `above ${least - 1} ` : ''}is asked for`)
}

/** What stands at a place of the command line, the first being 1; `otherwise`, if nothing does. Throws RangeError. */
export function numberAt(place: number, name: string, otherwise: number, least = 1): number {
  const text = process.argv[place + 1]
  return text === undefined ? otherwise : wholeNumber(name, text, least)
}
