// How protocols write an address and a port in text: RFC 959's host-port (4.1.2), the extended forms of RFC 2428
// (section 2 and 3), and the decimal word of DCC. Each notation can be read at a place, written for another endpoint,
// and recognised while only its beginning is there. Nothing is skipped before it, nothing out of range is taken: an
// octet is 0 to 255, a port 1 to 65535. Other ways of writing the same, leading zeros among them, are read too.

import type { Endpoint } from './helper.ts'

/** What was read. */
export interface Written {
  /** Undefined where the notation has only a port. */
  readonly address: string | undefined
  readonly port: number
  /** The span of the text that names the endpoint, and would be replaced. */
  readonly at: number
  readonly length: number
  /** Where the notation ends: after that span, and a closing delimiter if it has one. */
  readonly end: number
  /** The span as it has to be for another endpoint. */
  as(told: Endpoint): string
}

export interface Notation {
  /** What is written at `at`; undefined if it isn't this notation, or out of range. */
  read(text: string, at: number): Written | undefined
  /** Whether `text` from `at` to its end is the beginning of this notation, so that more bytes could complete it. */
  begins(text: string, at: number): boolean
}

const MOST_OCTET = 255
const MOST_PORT = 65535

const isPort = (port: number): boolean => port >= 1 && port <= MOST_PORT

/** Six numbers of at most three digits, and no seventh. */
const SIX_OCTETS = /(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3})(?![\d,])/y
const FIRST_OCTETS = /^(?:\d{1,3},){0,5}\d{0,3}$/

/** `10,0,0,5,156,64`: four octets of address, two of port. */
export const hostPort: Notation = {
  read(text, at) {
    SIX_OCTETS.lastIndex = at
    const found = SIX_OCTETS.exec(text)
    if (!found) return undefined
    const octets = found.slice(1).map(Number)
    const port = octets[4]! * 256 + octets[5]!
    if (octets.some((octet) => octet > MOST_OCTET) || !isPort(port)) return undefined
    const { length } = found[0]
    return { address: octets.slice(0, 4).join('.'), port, at, length, end: at + length, as: asHostPort }
  },
  begins(text, at) {
    const partial = text.slice(at)
    return FIRST_OCTETS.test(partial) && partial.split(',').every((octet) => Number(octet) <= MOST_OCTET)
  },
}

const asHostPort = ({ address, port }: Endpoint): string =>
  `${address.replaceAll('.', ',')},${port >> 8},${port & 0xff}`

/**
 * RFC 2428 section 2: any of the ASCII range 33 to 126. A digit would leave open where a number ends, a dot an address.
 */
const isDelimiter = (character: string): boolean =>
  character >= '!' && character <= '~' && character !== '.' && !(character >= '0' && character <= '9')

const IPV4 = '1'
const DOTTED = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/
const PORT = /^\d{1,5}$/
const FIRST_DOTTED = /^(?:\d{1,3}\.){0,3}\d{0,3}$/
const FIRST_PORT = /^\d{0,5}$/

/** The address without leading zeros; undefined if it is none. */
function readDotted(text: string): string | undefined {
  const octets = DOTTED.exec(text)?.slice(1).map(Number)
  return octets?.every((octet) => octet <= MOST_OCTET) ? octets.join('.') : undefined
}

/** `|1|10.0.0.5|40000|`; family 2 is IPv6 and not read. */
export const extendedPort: Notation = {
  read(text, at) {
    const delimiter = text[at] ?? ''
    if (!isDelimiter(delimiter)) return undefined
    const [before, family, dotted, digits, ...after] = text.slice(at).split(delimiter, 5)
    if (before !== '' || family !== IPV4 || dotted === undefined || digits === undefined || after.length !== 1)
      return undefined
    const address = readDotted(dotted)
    if (address === undefined || !PORT.test(digits) || !isPort(Number(digits))) return undefined
    const addressAt = at + IPV4.length + 2
    const length = dotted.length + 1 + digits.length
    const as = (told: Endpoint): string => `${told.address}${delimiter}${told.port}`
    return { address, port: Number(digits), at: addressAt, length, end: addressAt + length + 1, as }
  },
  begins(text, at) {
    if (at === text.length) return true
    const delimiter = text[at]!
    if (!isDelimiter(delimiter)) return false
    const [, family, dotted, digits, after] = text.slice(at).split(delimiter)
    if (after !== undefined) return after === '' && this.read(text, at) !== undefined
    if (dotted === undefined) return family === undefined || IPV4.startsWith(family)
    if (family !== IPV4) return false
    if (digits === undefined) return FIRST_DOTTED.test(dotted) && withinOctets(dotted)
    return readDotted(dotted) !== undefined && FIRST_PORT.test(digits) && Number(digits) <= MOST_PORT
  },
}

const withinOctets = (partial: string): boolean => partial.split('.').every((octet) => Number(octet) <= MOST_OCTET)

/** `|||40000|`: the address is that of the control connection. */
export const extendedPassive: Notation = {
  read(text, at) {
    const delimiter = text[at] ?? ''
    if (!isDelimiter(delimiter) || text[at + 1] !== delimiter || text[at + 2] !== delimiter) return undefined
    const portAt = at + 3
    const end = text.indexOf(delimiter, portAt)
    const digits = text.slice(portAt, end)
    if (end < 0 || !PORT.test(digits) || !isPort(Number(digits))) return undefined
    return { address: undefined, port: Number(digits), at: portAt, length: digits.length, end: end + 1, as: asPort }
  },
  begins(text, at) {
    const delimiter = text[at]
    if (delimiter === undefined) return true
    if (!isDelimiter(delimiter)) return false
    for (let i = at + 1; i < at + 3; i++) if (text[i] !== undefined && text[i] !== delimiter) return false
    const digits = text.slice(at + 3)
    return (FIRST_PORT.test(digits) && Number(digits) <= MOST_PORT) || this.read(text, at)?.end === text.length
  },
}

const asPort = ({ port }: Endpoint): string => String(port)

const WORD_AND_PORT = /(\d{1,10})( +)(\d{1,5})(?!\d)/y
const FIRST_WORD_AND_PORT = /^(?:(\d{0,10})|(\d{1,10}) +(\d{0,5}))$/
const MOST_WORD = 0xffff_ffff

/** `167772165 40000`: the address as one number, then the port, which may be 0 here: "I can't be reached". */
export const wordAndPort: Notation = {
  read(text, at) {
    WORD_AND_PORT.lastIndex = at
    const found = WORD_AND_PORT.exec(text)
    if (!found) return undefined
    const [{ length }, word = '', blanks = '', digits = ''] = found
    const port = Number(digits)
    if (Number(word) > MOST_WORD || port > MOST_PORT) return undefined
    const as = (told: Endpoint): string => `${wordOf(told.address)}${blanks}${told.port}`
    return { address: dottedOf(Number(word)), port, at, length, end: at + length, as }
  },
  begins(text, at) {
    const found = FIRST_WORD_AND_PORT.exec(text.slice(at))
    return found !== null && Number(found[1] ?? found[2]) <= MOST_WORD && Number(found[3] ?? 0) <= MOST_PORT
  },
}

const dottedOf = (word: number): string => [24, 16, 8, 0].map((bits) => (word >>> bits) & 0xff).join('.')

const wordOf = (address: string): number => address.split('.').reduce((word, octet) => word * 256 + Number(octet), 0)
