// Addresses as people write them, and what is said when one can't be read: what was probably meant, or why it can't be.

import { noHostsAddress, parseAddressRange } from '../../coordinator/address-range.ts'
import { isServer } from '../../coordinator/helpers/helper-config.ts'
import { formatPrefix, htonl, parseAddress, swap32 } from '../../wire/address.ts'

export const PREFIX = 'an IPv4 address, or a prefix without bits behind its length (192.0.2.0/24)'

/** Whether the text is an address or a prefix. */
export const isPrefix = isServer

/** What is allowed, and what is wrong with the text. */
export const prefixText = (written: unknown): string => `${PREFIX}${hint(written)}`

/** `; did you mean ...?`, or `; ` and why it can't be; empty if there is nothing to say. */
export function hint(written: unknown): string {
  const text = typeof written === 'string' ? written.trim() : ''
  if (/^\[?[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*\]?(\/\d+)?$/i.test(text)) return "; IPv6 isn't translated"
  if (text !== written && text !== '') return '; it has white space around it'
  const meant = withoutBits(text) ?? inOrder(text) ?? withoutZeros(text)
  if (meant !== undefined) return `; did you mean ${meant}?`
  const octet = /^[0-9.]+/
    .exec(text)?.[0]
    .split('.')
    .find((octet) => Number(octet) > 255)
  if (octet !== undefined) return `; ${octet} is more than 255`
  const length = /\/(\d+)$/.exec(text)?.[1]
  return Number(length) > 32 ? `; a length is 32 at most` : ''
}

/** `192.0.2.1/24` is `192.0.2.0/24` with bits behind the length. */
function withoutBits(text: string): string | undefined {
  const [, address = '', length = ''] = /^([^/]+)\/(\d{1,2})$/.exec(text) ?? []
  if (!isAddress(address) || Number(length) > 32) return undefined
  const mask = length === '0' ? 0 : swap32(-1 << (32 - Number(length)))
  return formatPrefix({ address: parseAddress(address) & mask, mask, length: Number(length) })
}

/** A range whose last address is below its first. */
function inOrder(text: string): string | undefined {
  const [from = '', to = '', ...more] = text.split('-').map((part) => part.trim())
  if (!isAddress(from) || !isAddress(to) || more.length > 0) return undefined
  const asWritten = `${from}-${to}`
  return isRange(asWritten) ? asWritten : `${to}-${from}`
}

/** `010.0.0.1`, which some programs read as octal. */
function withoutZeros(text: string): string | undefined {
  const plain = text.replace(/(^|[./-])0+(?=\d)/g, '$1')
  return plain !== text && (isPrefix(plain) || isRange(plain)) ? plain : undefined
}

/** Why no host can have an address of this range; undefined if one can. */
export function whyNoHosts({ first, last }: { readonly first: number; readonly last: number }): string | undefined {
  return noHostsAddress(htonl(first | 0)) ?? noHostsAddress(htonl(last | 0))
}

const isAddress = (text: string): boolean => !text.includes('/') && isServer(text)

function isRange(text: string): boolean {
  try {
    parseAddressRange(text)
    return true
  } catch {
    return false
  }
}
