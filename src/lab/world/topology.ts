// The lab's little world: a LAN host behind a gateway, and the outside before it. Three network namespaces, two cables.
//
//   lan                        gateway                          outside
//   10.0.0.2-9/24 eth0 -- lan0 10.0.0.1/24
//                              203.0.113.1/24 wan0 ---- eth0 203.0.113.2/24
//                                                         lo 198.51.100.10/32, reached by the default route
//
// The outside has no route to 10.0.0.0/24: what comes back to the LAN was translated, or it was nothing.
// Addresses are documentation's (RFC 5737) and private (RFC 1918). IPv6 is off, links are 1500 bytes, neighbours are
// found by ARP alone.
//
// Owner: the process whose id and start time stand in the names of the namespaces and of the directory. They are taken
// back by name, so also after a process that was killed before it could: removeLeftovers() at the next start.

import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Namespace, run, veth } from './namespace.ts'

export const INSIDE_INTERFACE = 'lan0'
export const OUTSIDE_INTERFACE = 'wan0'
export const GATEWAY_INSIDE = '10.0.0.1'
export const GATEWAY_OUTSIDE = '203.0.113.1'
/** On the gateway's own outside link. */
export const SERVER = '203.0.113.2'
/** The same host, by an address that only routing reaches. */
export const REMOTE = '198.51.100.10'
/** The LAN host's addresses; it sends from the first one unless told otherwise. */
export const INSIDE_HOSTS = Array.from({ length: 8 }, (_, i) => `10.0.0.${i + 2}`)
/** The interface of both end hosts. */
export const HOST_INTERFACE = 'eth0'

const NETNS = '/run/netns'

/** When a process began, in clock ticks since boot (proc_pid_stat(5), field 22); undefined if there is none. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}

function entries(directory: string, prefix: string): string[] {
  try {
    return readdirSync(directory).filter((name) => name.startsWith(prefix))
  } catch {
    // The first `ip netns add` makes it.
    return []
  }
}

/** Whether this user made it: the directory for temporary files is everybody's. */
const isMine = (path: string): boolean => lstatSync(path).uid === process.getuid?.()

const directories = (prefix: string): string[] =>
  entries(tmpdir(), prefix).filter((name) => isMine(join(tmpdir(), name)))

/** Processes whose network is this namespace. */
function processesIn(name: string): number[] {
  return run('ip', ['netns', 'pids', name]).split('\n').filter(Boolean).map(Number)
}

function removeNamespace(name: string): void {
  for (const pid of processesIn(name)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It ended by itself.
    }
  }
  run('ip', ['netns', 'delete', name])
}

function removeDirectory(name: string): void {
  rmSync(join(tmpdir(), name), { recursive: true, force: true })
}

/** What begins the names of all that this process makes: `natloom-lab` becomes `natloom-lab-<process>-<its start>`. */
export const familyOf = (family: string): string => `${family}-${process.pid}-${startTime(process.pid)}`

/** Removes all of one process, by what familyOf() returned there: namespaces, processes in them, directories. */
export function removeOf(owner: string): void {
  entries(NETNS, `${owner}-`).forEach(removeNamespace)
  directories(`${owner}-`).forEach(removeDirectory)
}

/**
 * Removes what is of this family and of a process that is gone, the processes in namespaces included.
 * Returns the names of the namespaces. An ordinary user has no namespaces here, and can't remove root's.
 */
export function removeLeftovers(family: string): string[] {
  const prefix = `${family}-`
  const isOrphan = (name: string): boolean => {
    const [pid, began] = name.slice(prefix.length).split('-')
    return /^\d+$/.test(pid ?? '') && startTime(Number(pid)) !== began
  }
  const namespaces = process.getuid?.() === 0 ? entries(NETNS, prefix).filter(isOrphan) : []
  namespaces.forEach(removeNamespace)
  directories(prefix).filter(isOrphan).forEach(removeDirectory)
  return namespaces
}

export class Topology {
  readonly lan: Namespace
  readonly gateway: Namespace
  readonly outside: Namespace
  /** For files of the gateway; removed with the rest. */
  readonly directory: string
  readonly #owner: string

  private constructor(owner: string) {
    this.#owner = owner
    const prefix = `${owner}-`
    this.directory = join(tmpdir(), `${prefix}files`)
    mkdirSync(this.directory, { mode: 0o700 })
    this.lan = Namespace.create(`${prefix}lan`)
    this.gateway = Namespace.create(`${prefix}gateway`)
    this.outside = Namespace.create(`${prefix}outside`)
    for (const host of this.hosts) disableIpv6(host)

    veth(this.lan, HOST_INTERFACE, this.gateway, INSIDE_INTERFACE)
    for (const address of INSIDE_HOSTS) this.lan.ip(`addr add ${address}/24 dev ${HOST_INTERFACE}`)
    this.lan.ip(`route add default via ${GATEWAY_INSIDE}`)
    this.gateway.ip(`addr add ${GATEWAY_INSIDE}/24 dev ${INSIDE_INTERFACE}`)

    veth(this.gateway, OUTSIDE_INTERFACE, this.outside, HOST_INTERFACE)
    this.gateway.ip(`addr add ${GATEWAY_OUTSIDE}/24 dev ${OUTSIDE_INTERFACE}`)
    this.gateway.ip(`route add default via ${SERVER}`)
    this.outside.ip(`addr add ${SERVER}/24 dev ${HOST_INTERFACE}`)
    this.outside.ip(`addr add ${REMOTE}/32 dev lo`)
  }

  /** `family` begins the namespaces' names: `natloom-lab` makes `natloom-lab-<process>-<its start>-lan` and so on. */
  static create(family: string): Topology {
    const owner = familyOf(family)
    try {
      return new Topology(owner)
    } catch (error) {
      removeOf(owner)
      throw error
    }
  }

  get hosts(): readonly Namespace[] {
    return [this.lan, this.gateway, this.outside]
  }

  /** Processes that still run in it. */
  processes(): number[] {
    return this.hosts.flatMap((host) => processesIn(host.name))
  }

  /** May be called twice. Ends what runs inside. */
  remove(): void {
    removeOf(this.#owner)
  }
}

function disableIpv6(host: Namespace): void {
  // A kernel without IPv6 has nothing to disable.
  const script = 'for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do [ ! -e "$f" ] || echo 1 > "$f"; done'
  host.exec('sh', '-c', script)
}
