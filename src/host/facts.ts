// What the checks of a host look at (coordinator/host-checks), read when it is first asked for and then kept: the
// checks of one look see one state. Nothing here changes anything. Tests give the checks facts of their own.

import { readFileSync } from 'node:fs'
import { endianness } from 'node:os'
import { ROUTE, type RouteType } from '../routing/fib.ts'
import { type Addr, parsePrefix } from '../wire/address.ts'
import { HostError, reasonOf } from './errors.ts'
import { ruleTexts } from './forward-chains.ts'
import { fibRoutes, type LinkReport, linkReports, readTables } from './host-tables.ts'
import { otherInstances, refusalOf } from './instances.ts'
import { NETLINK_ROUTE, NetlinkSocket } from './netlink-socket.ts'
import { mayWritePortRange, type PortRange, readPortRange } from './port-range.ts'
import { missingCapabilities, missingTools } from './rights.ts'
import { listAddedRules } from './rtnetlink.ts'
import { foreignTableRefusal, tableNames } from './rule-tables.ts'
import { legacyTables, listRuleset, type Ruleset } from './ruleset.ts'
import { portsInUse } from './sockets.ts'
import { leftBehind } from './state.ts'

/** Each may throw HostError or NetlinkError, as what it reads does. */
export interface HostFacts {
  isLittleEndian(): boolean
  missingCapabilities(): readonly string[]
  missingTools(): readonly { readonly tool: string; readonly package: string }[]
  /** Why this natloom is refused by what another one, or whoever owns an nft table of its name, has here. */
  inUse(): string | undefined
  /** Whether a killed natloom has left something. Throws HostError HOST_IN_USE if one runs with the state file. */
  leftBehind(): boolean
  /** By port number: inside ones first. */
  links(): readonly LinkReport[]
  /** Where the host's routes lead: the type and, if it is one of ours, the port number, else -1. */
  routeTo(address: Addr): { readonly type: RouteType; readonly port: number }
  ruleset(): Ruleset
  /** Family and name of the nft tables of this gateway and of the others of this host, also of killed ones. */
  natloomTables(): ReadonlySet<string>
  /** The rules of a chain as nft writes them, by handle. */
  ruleTexts(chain: string): ReadonlyMap<number, string>
  /** The tables that iptables-legacy has here. */
  legacyTables(): readonly string[]
  /** The ports within a range on which the host has sockets that are bound to one of these addresses, or to all. */
  portsInUse(addresses: readonly Addr[], range: PortRange, protocol: number): ReadonlySet<number>
  portRange(): PortRange
  mayWritePortRange(): boolean
  /** What keeps the kernel from answering ARP on an interface (net.ipv4.conf.*.arp_ignore): 0 for nothing. */
  arpIgnore(name: string): number
  /** Priorities of the policy rules that somebody has added. */
  policyRules(): readonly number[]
  /** Whether the kernel forwards IPv4. */
  forwards(): boolean
  /** Bytes that a program may get without swapping, as the kernel estimates it. */
  availableMemory(): number
}

const CONF = '/proc/sys/net/ipv4/conf'

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new HostError('HOST_SYSCTL', `${file} can't be read: ${reasonOf(error)}`, { cause: error })
  }
}

function withRoutingSocket<T>(look: (socket: NetlinkSocket) => T): T {
  const socket = new NetlinkSocket(NETLINK_ROUTE)
  try {
    return look(socket)
  } finally {
    socket.close()
  }
}

/** Calls the function once; if it throws, each call does. */
function once<T>(look: () => T): () => T {
  let seen: { readonly value: T } | undefined
  return () => {
    seen ??= { value: look() }
    return seen.value
  }
}

/** The host as it is now, for a gateway of this name with these interfaces, inside ones first. */
export function hostFacts(name: string, interfaces: readonly string[], statePath: string): HostFacts {
  const tables = once(() => withRoutingSocket((socket) => readTables(socket, interfaces)))
  const routes = once(() => fibRoutes(tables()))
  return {
    isLittleEndian: () => endianness() === 'LE',
    missingCapabilities,
    missingTools,
    inUse: () => refusalOf(name, interfaces) ?? foreignTableRefusal(name),
    leftBehind: () => leftBehind(statePath) !== undefined,
    links: once(() => linkReports(interfaces, tables())),
    routeTo: (address) => bestRoute(routes(), address),
    ruleset: once(listRuleset),
    natloomTables: () =>
      new Set([...tableNames(name), ...otherInstances(name).flatMap(({ state }) => state.nftTables)]),
    ruleTexts,
    legacyTables,
    portsInUse: (addresses, range, protocol) => portsInUse(addresses, range, [protocol]),
    portRange: readPortRange,
    mayWritePortRange,
    arpIgnore: (name) => Math.max(...['all', name].map((each) => Number(read(`${CONF}/${each}/arp_ignore`)))),
    policyRules: () => withRoutingSocket(listAddedRules),
    forwards: () => read('/proc/sys/net/ipv4/ip_forward').trim() !== '0',
    availableMemory: () => Number(/^MemAvailable:\s+(\d+) kB$/m.exec(read('/proc/meminfo'))?.[1] ?? 0) * 1024,
  }
}

/** Longest prefix first, then the lowest metric (RFC 1812 5.2.4.3), as routing/fib.ts finds it. */
export function bestRoute(
  routes: ReturnType<typeof fibRoutes>,
  address: Addr,
): { readonly type: RouteType; readonly port: number } {
  const best = routes
    .filter(({ destination, length }) => ((address ^ destination) & maskOf(length)) === 0)
    .reduce<(typeof routes)[number] | undefined>((found, route) => {
      if (!found || route.length > found.length) return route
      return route.length === found.length && route.metric < found.metric ? route : found
    }, undefined)
  return best ?? { type: ROUTE.none, port: -1 }
}

/** As loaded: the first byte of an address is the lowest. */
const maskOf = (length: number): number => parsePrefix(`0.0.0.0/${length}`).mask
