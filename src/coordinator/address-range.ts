// The addresses that an entry of nat.pool stands for: one address, a range or a prefix. Ends of a range are in numeric
// order (203.0.113.1 is 0xcb007101), because addresses of a range are counted; swap32() turns them into addresses as
// loaded from a packet.

import {
  type Addr,
  formatAddress,
  isLoopback,
  isMulticast,
  isThisNetwork,
  parseAddress,
  parsePrefix,
  swap32,
} from '../wire/address.ts'

export interface AddressRange {
  readonly first: number
  /** Included. */
  readonly last: number
}

const numeric = (address: Addr): number => swap32(address) >>> 0

/** Throws RangeError if the text is none of the three, or a range's last address is below its first. */
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

/** Every address of a pool, as loaded, in the order of its entries. Throws RangeError as above. */
export const poolAddresses = (entries: readonly string[]): Addr[] =>
  entries
    .map(parseAddressRange)
    .flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, i) => swap32((first + i) | 0)))

/** How many addresses a pool has. Throws RangeError as above. */
export const poolSize = (entries: readonly string[]): number =>
  entries.map(parseAddressRange).reduce((sum, { first, last }) => sum + last - first + 1, 0)

/** Why no host on a network can have this address, to be read on; undefined if one can. Authority: RFC 6890. */
export function noHostsAddress(address: Addr): string | undefined {
  const block = blockOf(address)
  return block && `${formatAddress(address)} is in ${block}, which no host on a network has`
}

function blockOf(address: Addr): string | undefined {
  if (isThisNetwork(address)) return '0.0.0.0/8'
  if (isLoopback(address)) return '127.0.0.0/8 (loopback)'
  if (isMulticast(address)) return '224.0.0.0/4 (multicast)'
  return (address & 0xf0) === 0xf0 ? '240.0.0.0/4 (reserved)' : undefined
}
