// The addresses that a pool's entry stands for: an address, a range or a prefix. Text as people write it (RFC 4632 for
// prefixes); numbers in host order, because ranges count (203.0.113.1 is 0xcb007101).

export interface AddressRange {
  readonly first: number
  /** Included. */
  readonly last: number
}

const OCTET = '(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
const ADDRESS = new RegExp(`^${OCTET}\\.${OCTET}\\.${OCTET}\\.${OCTET}$`)

/** Four decimal octets without leading zeros, or undefined. */
function address(text: string): number | undefined {
  const octets = ADDRESS.exec(text)
  if (!octets) return undefined
  return octets.slice(1).reduce((sum, octet) => sum * 256 + Number(octet), 0)
}

/** Undefined if the text is none of the three, the range runs backwards, or the prefix has bits behind its length. */
export function addressRange(text: string): AddressRange | undefined {
  const [left = '', right] = text.split(/[-/]/, 2)
  const first = address(left)
  if (first === undefined) return undefined
  if (right === undefined) return { first, last: first }
  if (text.length !== left.length + 1 + right.length) return undefined
  if (text.includes('-')) {
    const last = address(right)
    return last !== undefined && last >= first ? { first, last } : undefined
  }
  if (!/^([12]?\d|3[0-2])$/.test(right)) return undefined
  const size = 2 ** (32 - Number(right))
  return first % size === 0 ? { first, last: first + size - 1 } : undefined
}
