// The lab's network: a LAN host, a gateway, and the outside. Three network namespaces, two cables.
//
//   lan                        gateway                          outside
//   10.0.0.2-9/24 eth0 -- lan0 10.0.0.1/24
//                              203.0.113.1/24 wan0 ---- eth0 203.0.113.2/24
//                                                         lo 198.51.100.10/32, reached by the default route
//
// The outside has no route to 10.0.0.0/24, so only packets that were translated can be answered. Addresses are those
// for documentation (RFC 5737) and private ones (RFC 1918). IPv6 is off, the MTU is 1500, neighbours are found by ARP
// alone.
//
// Owner: the process whose id and start time stand in the names of the namespaces and of the directory. They are
// removed by name, so the next start can do it for a process that was killed: removeLeftovers().

import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Namespace, run, veth } from './namespace.ts'

export const INSIDE_INTERFACE = 'lan0'
export const OUTSIDE_INTERFACE = 'wan0'
/** Of all inside addresses. */
export const INSIDE_PREFIX = '10.0.0.0/8'
export const GATEWAY_INSIDE = '10.0.0.1'
export const GATEWAY_OUTSIDE = '203.0.113.1'
/** On the gateway's own outside link. */
export const SERVER = '203.0.113.2'
/** Another address of the same host, which the gateway reaches by its default route only. */
export const REMOTE = '198.51.100.10'
/** The LAN host's addresses; packets have the first one as their source unless a program binds another. */
export const INSIDE_HOSTS = Array.from({ length: 8 }, (_, i) => `10.0.0.${i + 2}`)
/** The interface of both end hosts. */
export const HOST_INTERFACE = 'eth0'

const NETNS = '/run/netns'

/** When a process began, in clock ticks since boot (proc_pid_stat(5), field 22); undefined if it has ended. */
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
    // The directory is made by the first `ip netns add`.
    return []
  }
}

/** Whether this user made a file: the directory for temporary files is common to all users. */
const isMine = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.uid === process.getuid?.()

const directories = (prefix: string): string[] =>
  entries(tmpdir(), prefix).filter((name) => isMine(join(tmpdir(), name)))

/** Processes whose network is this namespace. */
function processesIn(name: string): number[] {
  return run('ip', ['netns', 'pids', name]).split('\n').filter(Boolean).map(Number)
}

/** Ends its processes and deletes it. Another process may be removing the same one: then it has done so. */
function removeNamespace(name: string): void {
  try {
    for (const pid of processesIn(name)) end(pid)
    run('ip', ['netns', 'delete', name])
  } catch (error) {
    if (existsSync(join(NETNS, name))) throw error
  }
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself.
  }
}

function removeDirectory(name: string): void {
  rmSync(join(tmpdir(), name), { recursive: true, force: true })
}

/** The begin of all names that this process makes: `natloom-lab` becomes `natloom-lab-<process>-<its start>`. */
export const familyOf = (family: string): string => `${family}-${process.pid}-${startTime(process.pid)}`

/** Removes what one process has made: namespaces, processes in them, directories. `owner` is its familyOf(). */
export function removeOf(owner: string): void {
  entries(NETNS, `${owner}-`).forEach(removeNamespace)
  directories(`${owner}-`).forEach(removeDirectory)
}

/**
 * Removes what processes of this family have left that have ended, also processes that still run in their namespaces.
 * Returns the names of the namespaces. An ordinary user has none here and can't remove root's.
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
  /** For files of the gateway and the servers; removed with the rest. */
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

  /** The family `natloom-lab` has namespaces `natloom-lab-<process>-<its start>-lan` and so on. */
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

  /** Ends what runs inside and removes all. May be called twice. */
  remove(): void {
    removeOf(this.#owner)
  }
}

function disableIpv6(host: Namespace): void {
  // A kernel without IPv6 has nothing to disable.
  const script = 'for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do [ ! -e "$f" ] || echo 1 > "$f"; done'
  host.exec('sh', '-c', script)
}
