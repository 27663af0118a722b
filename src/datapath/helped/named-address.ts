// Whether bytes name an inside address. What a helper can't rewrite any more must not go out if it does
// (docs/decisions/0040-an-announcement-that-cannot-be-rewritten.md). Looked for is one address, the sender's own, in
// the notations that helpers read (helpers/notations.ts): four numbers between dots or commas, also with leading zeros,
// and one decimal number; and as four bytes, as protocols of binary frames write it.
//
// Four bytes may also be text by chance: those of 10.80.79.82 are "\nPOR". Of such an address they count only where the
// helper reads no lines.

import type { Addr } from '../../wire/address.ts'
import { formatAddress } from '../../wire/address.ts'

/** Ways to write an address that are remembered: those of senders whose helpers have failed last. */
const MOST_REMEMBERED = 64
const DECIMAL_DIGITS = 10

interface Names {
  /** The address, whole, anywhere. */
  readonly whole: RegExp
  /** Behind the last byte more may come that makes it the address: its first octet is there. */
  readonly begun: RegExp
}

const remembered = new Map<string, Names>()

/** Whether the text (a character a byte) names this address. `isBinary`: its helper doesn't read lines. */
export const namesAddress = (text: string, address: Addr, isBinary: boolean): boolean =>
  namesOf(address, isBinary).whole.test(text)

/** Whether it names it, or ends with the first octet of it, and more. */
export function mayNameAddress(text: string, address: Addr, isBinary: boolean): boolean {
  const { whole, begun } = namesOf(address, isBinary)
  return whole.test(text) || begun.test(text)
}

/** The text with a zero in place of each time that it names the address. */
export const withoutAddress = (text: string, address: Addr, isBinary: boolean): string =>
  text.split(namesOf(address, isBinary).whole).join('\0')

function namesOf(address: Addr, isBinary: boolean): Names {
  const octets = formatAddress(address).split('.').map(Number)
  const takesBytes = isBinary || !octets.every(isText)
  const key = `${octets} ${takesBytes}`
  const known = remembered.get(key)
  if (known) return known
  if (remembered.size === MOST_REMEMBERED) remembered.delete(remembered.keys().next().value!)
  const names = { whole: whole(octets, takesBytes), begun: begun(octets, takesBytes) }
  remembered.set(key, names)
  return names
}

const isText = (byte: number): boolean =>
  byte === 0x09 || byte === 0x0a || byte === 0x0d || (byte >= 0x20 && byte < 0x7f)

/** An octet in as many as three digits, and the digits that it may begin with. */
const digits = (octet: number): string => `0{0,${3 - String(octet).length}}${octet}`
const partOf = (octet: number): string => `0{0,2}${partOfDigits(String(octet), 0)}`
const wordOf = (octets: readonly number[]): string => String(octets.reduce((word, octet) => word * 256 + octet, 0))
const bytesOf = (octets: readonly number[]): string =>
  octets.map((octet) => `\\x${octet.toString(16).padStart(2, '0')}`).join('')

/** `1(?:6(?:8)?)?`, of which at least the first `least` digits are there. */
function partOfDigits(text: string, least: number): string {
  const optional = [...text.slice(least)].reduceRight((rest, digit) => `(?:${digit}${rest})?`, '')
  return text.slice(0, least) + optional
}

function whole(octets: readonly number[], takesBytes: boolean): RegExp {
  const word = wordOf(octets)
  const quads = octets.map(digits).join('[.,]')
  const numbers = `(?<!\\d)(?:${quads}|0{0,${DECIMAL_DIGITS - word.length}}${word})(?!\\d)`
  return new RegExp(takesBytes ? `${numbers}|${bytesOf(octets)}` : numbers)
}

function begun(octets: readonly number[], takesBytes: boolean): RegExp {
  const [a, b, c, d] = octets as [number, number, number, number]
  const word = wordOf(octets)
  const third = `(?:${partOf(c)}|${digits(c)}[.,]${partOf(d)})`
  const quads = `${digits(a)}[.,](?:${partOf(b)}|${digits(b)}[.,]${third})`
  const numbers = `(?<!\\d)(?:${quads}|${partOfDigits(word, Math.ceil(word.length / 2))})`
  const two = bytesOf(octets.slice(0, 2))
  return new RegExp(takesBytes ? `(?:${numbers}|${two}(?:${bytesOf([c])})?)$` : `${numbers}$`)
}
