// IPv4 addresses, prefixes and MAC addresses. Authority: RFC 791 2.3, RFC 4632 (prefixes), RFC 1122 3.2.1.3 (special
// addresses), IEEE 802.
//
// On the packet path an address is what a little-endian 32-bit load of its four network-order bytes gives ("as
// loaded", a signed number): it is compared, hashed and stored, never computed with, so it is never swapped. Numeric
// order exists only where people or ranges need it, by ntohl and ntohs, and goes back by htonl and htons (as the C
// library names them).

// Types that say what a number is, for the compiler alone (memory/brand.ts says how they behave).

/** An IPv4 address as loaded: `mem.getInt32(at, true)`. */
export type Addr = number & { readonly brand?: 'Addr' }
/** An IPv4 address in numeric order, signed: to be compared and counted. */
export type AddrHost = number & { readonly brand?: 'AddrHost' }
/** A port, or an ICMP identifier, as loaded: `mem.getUint16(at, true)`. */
export type Port = number & { readonly brand?: 'Port' }
/** The same in numeric order, 0 to 65535: to be compared and counted. */
export type PortHost = number & { readonly brand?: 'PortHost' }
/** Both ports of a header as loaded in one word, the source's in the low half (conntrack/terms.ts). */
export type Ports = number & { readonly brand?: 'Ports' }
/** A protocol number of the IPv4 header. */
export type ProtocolNumber = number & { readonly brand?: 'Protocol' }

export interface Prefix {
  /** As loaded; no bit outside the mask is set. */
  readonly address: Addr
  /** As loaded. */
  readonly mask: number
  /** 0 to 32. */
  readonly length: number
}

/** Turns 32 bits as loaded into numeric order, and back; both are signed. */
export const swap32 = (x: number): number => (x << 24) | ((x & 0xff00) << 8) | ((x >>> 8) & 0xff00) | (x >>> 24)

/** Swaps the two bytes of a 16-bit number; bits above them are ignored. */
export const swap16 = (x: number): number => ((x & 0xff) << 8) | ((x >>> 8) & 0xff)

/** From the network's order (as loaded) to numeric order, and back. */
export const ntohl = (address: Addr): AddrHost => swap32(address)
export const htonl = (address: AddrHost): Addr => swap32(address)
export const ntohs = (port: Port): PortHost => swap16(port)
export const htons = (port: PortHost): Port => swap16(port)

export const contains = (prefix: Prefix, a: Addr): boolean => (a & prefix.mask) === prefix.address

/** 0.0.0.0/8, "this network": never a destination, a source only before DHCP has answered. */
export const isThisNetwork = (a: Addr): boolean => (a & 0xff) === 0
/** 127.0.0.0/8. */
export const isLoopback = (a: Addr): boolean => (a & 0xff) === 127
/** 224.0.0.0/4. */
export const isMulticast = (a: Addr): boolean => (a & 0xf0) === 0xe0
/** 255.255.255.255. */
export const isLimitedBroadcast = (a: Addr): boolean => a === -1

// --- text: control plane, tests and the printer ---

// Without leading zeros: some readers take those for octal.
const OCTET = '(0|[1-9][0-9]{0,2})'
const ADDRESS = new RegExp(`^${OCTET}\\.${OCTET}\\.${OCTET}\\.${OCTET}$`)
const PREFIX = /^([^/]*)\/(0|[1-9][0-9]?)$/
const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i

function tryAddress(text: string): Addr | undefined {
  const octets = ADDRESS.exec(text)?.slice(1).map(Number)
  if (!octets || octets.some((octet) => octet > 255)) return undefined
  return octets[0]! | (octets[1]! << 8) | (octets[2]! << 16) | (octets[3]! << 24)
}

/** @throws RangeError if it is not four decimal numbers of 0 to 255 without leading zeros, with dots between. */
export function parseAddress(text: string): Addr {
  const address = tryAddress(text)
  if (address === undefined) throw new RangeError(`"${text}" is no IPv4 address: write it like 192.0.2.1`)
  return address
}

export const formatAddress = (a: Addr): string => `${a & 0xff}.${(a >>> 8) & 0xff}.${(a >>> 16) & 0xff}.${a >>> 24}`

/** @throws RangeError if it is no address/length, or if the address has bits set beyond the length. */
export function parsePrefix(text: string): Prefix {
  const parts = PREFIX.exec(text)
  const given = parts ? tryAddress(parts[1]!) : undefined
  const length = Number(parts?.[2])
  if (given === undefined || length > 32)
    throw new RangeError(`"${text}" is no IPv4 prefix: write it like 192.0.2.0/24, with a length of 0 to 32`)
  const mask = swap32(length === 0 ? 0 : -1 << (32 - length))
  const prefix = { address: given & mask, mask, length }
  if (prefix.address !== given)
    throw new RangeError(`"${text}" has bits set beyond its first ${length}: write ${formatPrefix(prefix)}`)
  return prefix
}

export const formatPrefix = (prefix: Prefix): string => `${formatAddress(prefix.address)}/${prefix.length}`

/** @throws RangeError if it is not six bytes in hexadecimal with colons between. */
export function parseMac(text: string): Uint8Array {
  if (!MAC.test(text)) throw new RangeError(`"${text}" is no MAC address: write it like 02:00:5e:10:00:01`)
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16))
}

export function formatMac(mem: DataView, at: number): string {
  const bytes = Array.from({ length: 6 }, (_, i) => mem.getUint8(at + i))
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':')
}
