// The addresses that a pool's entry stands for: an address, a range or a prefix. Numbers are in numeric order, because
// ranges count (203.0.113.1 is 0xcb007101); swap32() makes packets' addresses of them.

import { type Addr, parseAddress, parsePrefix, swap32 } from '../wire/address.ts'

export interface AddressRange {
  readonly first: number
  /** Included. */
  readonly last: number
}

const numeric = (address: Addr): number => swap32(address) >>> 0

/** @throws RangeError if the text is none of the three, or a range runs backwards. */
export function parseAddressRange(text: string): AddressRange {
  if (text.includes('/')) {
    const { address, length } = parsePrefix(text)
    const first = numeric(address)
    return { first, last: first + 2 ** (32 - length) - 1 }
  }
  const [from = '', to = from, ...more] = text.split('-')
  const range = { first: numeric(parseAddress(from)), last: numeric(parseAddress(to)) }
  if (more.length > 0 || range.last < range.first) throw new RangeError(`"${text}" is no range of addresses`)
  return range
}

/** Every address of a pool, as loaded, in the order of its entries. @throws RangeError as above. */
export const poolAddresses = (entries: readonly string[]): Addr[] =>
  entries
    .map(parseAddressRange)
    .flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, i) => swap32((first + i) | 0)))
