// Rules that keep the kernel from answering or forwarding what natloom translates. Authority: nft(8), netfilter's
// netdev family. A packet socket is served before the ingress hook, so natloom receives what these rules drop.
//
// natloom carries packets between inside and outside. On our interfaces the kernel keeps:
//   - frames that are not IPv4, and tagged frames (their VLAN is an interface of its own)
//   - broadcast and multicast (DHCP, mDNS)
//   - packets for the host itself, except NAT's and forwarded ports on a shared address; ICMP always
//   - packets from inside to inside, and packets that are routed by a third interface
// A packet without a route is dropped too: natloom answers that the destination is unreachable, and the kernel must not
// answer as well. A later fragment has no ports, so no rule for ports drops it: the kernel queues it, gets no first
// fragment and discards it.
//
// The ingress rules look up routes (`fib`), and the result may be wrong there (seen with Linux 6.18). It happens for a
// segment of a socket of this very machine (a container behind a veth) whose interface has by chance the same index in
// its namespace as ours has here: the kernel takes the interface that it came by for its route. What passes because of
// it is dropped at the forward hook, where the route is known; alone that hook would be too late, after TTL and MTU
// were seen.
//
// A killed natloom leaves the rules behind, so that nothing is forwarded untranslated; the next start replaces them.

import { execFileSync } from 'node:child_process'
import type { Addr } from '../wire/address.ts'
import { HostError, reasonOf } from './errors.ts'
import type { PortRange } from './port-range.ts'
import { TOOL_PATH } from './rights.ts'

const INGRESS_TABLE = 'netdev natloom'
const FORWARD_TABLE = 'ip natloom'
export const NFT_TABLES = [INGRESS_TABLE, FORWARD_TABLE] as const

/** A TCP or UDP port (by protocol number) of one address or, if it is null, of every shared one. */
export interface ForwardedPort {
  readonly protocol: number
  readonly address: Addr | null
  readonly port: number
}

export interface RuleSet {
  readonly inside: readonly string[]
  readonly outside: readonly string[]
  /** Those of both sides that exist: a chain needs its interface. */
  readonly present: ReadonlySet<string>
  /** Addresses that NAT shares with the host. */
  readonly shared: readonly Addr[]
  /** Addresses that are NAT's alone. */
  readonly pool: readonly Addr[]
  /** TCP and UDP ports that are NAT's on the shared addresses; they don't overlap. */
  readonly hidden: readonly PortRange[]
  /** Protocols without ports that NAT translates on the shared addresses. */
  readonly protocols: readonly number[]
  /** Forwarded ports of shared addresses. */
  readonly forwarded: readonly ForwardedPort[]
}

const addressText = (address: Addr): string =>
  [address & 255, (address >>> 8) & 255, (address >>> 16) & 255, address >>> 24].join('.')

const set = (elements: readonly (string | number)[]): string => `{ ${elements.join(', ')} }`

/** nft has no escapes in a quoted name, and a final * would be a wildcard. */
function quoted(name: string): string {
  if (/^[^\s"*/:]{1,15}$/.test(name)) return `"${name}"`
  throw new HostError(
    'HOST_INTERFACE',
    `the interface name ${JSON.stringify(name)} can't be used in nft rules: rename it`,
  )
}

/** One transaction that replaces all of natloom's rules. Throws HostError HOST_INTERFACE for an unusable name. */
export function ruleText(rules: RuleSet): string {
  const chains = [
    ...rules.inside.map((name, number) => ({ name, label: `inside${number}`, body: insideRules(rules) })),
    ...rules.outside.map((name, number) => ({ name, label: `outside${number}`, body: outsideRules(rules) })),
  ]
  return [
    // The table is added first, because a deletion fails if there is none.
    ...NFT_TABLES.flatMap((table) => [`add table ${table}`, `delete table ${table}`]),
    `table ${INGRESS_TABLE} {`,
    ...chains
      .filter(({ name }) => rules.present.has(name))
      .flatMap(({ name, label, body }) => [
        `  chain ${label} {`,
        `    type filter hook ingress device ${quoted(name)} priority 0; policy accept;`,
        ...body.map((line) => `    ${line}`),
        '  }',
      ]),
    '}',
    `table ${FORWARD_TABLE} {`,
    '  chain forward {',
    '    type filter hook forward priority -300; policy accept;',
    ...forwardRules(rules).map((line) => `    ${line}`),
    '  }',
    '}',
    '',
  ].join('\n')
}

const insideRules = (rules: RuleSet): string[] => [
  'ether type != ip accept',
  ...natAddressRules(rules),
  ...carriedRules(rules.outside),
]

const outsideRules = (rules: RuleSet): string[] => [
  'ether type != ip accept',
  ...natAddressRules(rules),
  ...(rules.shared.length > 0 && rules.protocols.length > 0
    ? [`ip daddr ${set(rules.shared.map(addressText))} ip protocol ${set(rules.protocols)} drop`]
    : []),
  ...carriedRules([...rules.inside, ...rules.outside]),
]

function natAddressRules({ pool, shared, hidden, forwarded }: RuleSet): string[] {
  const ports = hidden.map(({ from, to }) => (from === to ? from : `${from}-${to}`))
  return [
    ...(pool.length > 0 ? [`ip daddr ${set(pool.map(addressText))} drop`] : []),
    ...(shared.length > 0 && ports.length > 0
      ? [`ip daddr ${set(shared.map(addressText))} meta l4proto { tcp, udp } th dport ${set(ports)} drop`]
      : []),
    ...shared.flatMap((address) =>
      forwarded
        .filter((forward) => (forward.address ?? address) === address)
        .map(({ protocol, port }) => `ip daddr ${addressText(address)} ip protocol ${protocol} th dport ${port} drop`),
    ),
  ]
}

/** A local destination has no `oif` either, so it is accepted before `oif missing` is asked for. */
const carriedRules = (towards: readonly string[]): string[] => [
  'meta pkttype != host accept',
  'fib daddr type { local, broadcast, multicast } accept',
  `fib daddr oifname ${set(towards.map(quoted))} drop`,
  'fib daddr oif missing drop',
]

function forwardRules({ inside, outside }: RuleSet): string[] {
  const [within, without, all] = [inside, outside, [...inside, ...outside]].map((names) => set(names.map(quoted)))
  return [`iifname ${within} oifname ${without} drop`, `iifname ${without} oifname ${all} drop`]
}

/** Runs nft with a script on its standard input, or with arguments; its standard output. Throws HostError HOST_NFT. */
export function nft(args: readonly string[], script = ''): string {
  try {
    return execFileSync('nft', args, {
      encoding: 'utf8',
      input: script,
      stdio: ['pipe', 'pipe', 'pipe'],
      maxBuffer: 256 << 20,
      env: { ...process.env, PATH: TOOL_PATH },
    })
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim() || reasonOf(error)
    throw new HostError('HOST_NFT', `nft ${args.join(' ')} failed: ${said}`, { cause: error })
  }
}

export const applyRules = (rules: RuleSet): void => void nft(['-f', '-'], ruleText(rules))

/** Removes a table, given with its family. No error if there is none. */
export const removeTable = (table: string): void => void nft(['-f', '-'], `add table ${table}\ndelete table ${table}\n`)
