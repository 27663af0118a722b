// The section `nat`. Authority for defaults: RFC 4787, 5382 and 5508 (NAT behaviour), RFC 6056 (choice of ports).

import * as z from 'zod'
import { type AddressRange, parseAddressRange } from '../../coordinator/address-range.ts'
import { PROTO_ICMP, PROTO_TCP, PROTO_UDP } from '../../wire/ipv4.ts'
import { PROTOCOL_NUMBERS } from '../protocols.ts'
import { hint, whyNoHosts } from './addresses.ts'
import { choice, flag, integer, section } from './values.ts'

/** Most addresses in a pool; each takes 768 KB of address space for its port words. */
const MAX_POOL_ADDRESSES = 1024

const dependence = () => choice('endpoint-independent', 'address-dependent', 'address-and-port-dependent')

const POOL_ENTRY = 'an IPv4 address, a range a-b, or a prefix without bits behind its length (203.0.113.0/28)'
const pool = () =>
  z
    .array(
      z.string(POOL_ENTRY).refine((text) => poolEntryFault(text) === undefined, {
        error: (issue) => `${POOL_ENTRY}${poolEntryFault(issue.input as string)}`,
      }),
      'a list of addresses, ranges a-b and prefixes',
    )
    .refine((entries) => poolLimit(entries) === undefined, { error: (issue) => poolLimit(issue.input as string[]) })

/** What is wrong with an entry, to be read on after what is allowed; undefined if nothing is. */
function poolEntryFault(text: string): string | undefined {
  const range = rangeOf(text)
  if (range === undefined) return hint(text)
  const why = whyNoHosts(range)
  return why && `; ${why}`
}

export function rangeOf(text: string): AddressRange | undefined {
  try {
    return parseAddressRange(text)
  } catch {
    return undefined
  }
}

/** Which limit the entries exceed together. */
export function poolLimit(entries: readonly string[]): string | undefined {
  const ranges = entries.map(rangeOf).filter((range) => range !== undefined)
  ranges.sort((a, b) => a.first - b.first)
  if (ranges.some((range, i) => i > 0 && range.first <= ranges[i - 1]!.last)) return 'each address once'
  const addresses = ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0)
  return addresses > MAX_POOL_ADDRESSES ? `at most ${MAX_POOL_ADDRESSES} addresses, these are ${addresses}` : undefined
}

const { ah: AH, ...TRANSLATABLE } = PROTOCOL_NUMBERS
const PROTOCOL = `${Object.keys(TRANSLATABLE).join(', ')}, or a number from 0 to 255 but 1, 6, 17 and 51`
const NEVER: ReadonlySet<number> = new Set([PROTO_ICMP, PROTO_TCP, PROTO_UDP, AH!])
const whyNotAh = (written: unknown): string =>
  written === 'ah' || written === AH ? '; ah signs the addresses, so no receiver would take it (RFC 4302)' : ''
const protocol = () => {
  const error = { error: (issue: { input?: unknown }) => `${PROTOCOL}${whyNotAh(issue.input)}` }
  const number = z.int(error).min(0, error).max(255, error)
  return z.union([z.enum(Object.keys(TRANSLATABLE)), number.refine((number) => !NEVER.has(number), error)], error)
}

export const nat = section({
  pool: pool()
    .default([])
    .describe("External addresses: addresses, ranges a-b, prefixes. Empty: the outside interface's own address."),
  blockSize: integer(16, 1024)
    .refine((size) => Number.isInteger(Math.log2(size)), 'a power of two from 16 to 1024')
    .default(64)
    .describe('Ports in a block, the unit in which shards own ports. A power of two.'),
  ports: section({
    from: integer(1024, 65535).default(16384).describe('The first.'),
    to: integer(1024, 64511).default(60991).describe('The last; the host itself gets those above it.'),
  })
    .prefault({})
    .describe('Ports that NAT uses of an address that it shares with the host.'),
  mapping: dependence()
    .default('endpoint-independent')
    .describe('Which flows of an inside endpoint share an external port (RFC 4787 REQ-1).'),
  filtering: dependence()
    .default('address-dependent')
    .describe('Who outside may send to a mapped port (RFC 4787 REQ-8).'),
  preservePorts: flag()
    .default(false)
    .describe("Try the inside host's own port first instead of a random one (RFC 6056 prefers random)."),
  parity: flag().default(true).describe('Even ports stay even, odd ones odd (RFC 4787 REQ-4, for RTP).'),
  protocols: z
    .array(protocol(), 'a list of protocol names or numbers')
    .default([])
    .describe('Protocols without ports to translate, such as gre or esp.'),
  sharedWithKernelNat: flag()
    .default(false)
    .describe('The kernel masquerades on an outside interface too, and was told to stay out of nat.ports.'),
}).prefault({})
