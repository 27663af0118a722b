// Numbers on the command lines of the benches.

/** A whole number of at least `least`. Throws RangeError. */
export function wholeNumber(option: string, text: string, least = 1): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= least) return value
  throw new RangeError(`${option} ${text}: a whole number ${least > 0 ? `above ${least - 1} ` : ''}is asked for`)
}
