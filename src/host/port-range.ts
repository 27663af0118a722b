// The range of ephemeral ports, which the kernel gives to the host's own sockets. On an address that NAT shares with
// the host it must lie outside of NAT's ports. Authority: ip_local_port_range in the kernel's ip-sysctl documentation.
// The setting belongs to the network namespace of the calling thread.

import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { HostError, reasonOf } from './errors.ts'

export interface PortRange {
  readonly from: number
  /** Included. */
  readonly to: number
}

const FILE = '/proc/sys/net/ipv4/ip_local_port_range'

export const overlap = (a: PortRange, b: PortRange): boolean => a.from <= b.to && b.from <= a.to

export const sameRange = (a: PortRange, b: PortRange): boolean => a.from === b.from && a.to === b.to

/** Throws HostError HOST_SYSCTL. */
export function readPortRange(): PortRange {
  try {
    const [from, to] = readFileSync(FILE, 'utf8').trim().split(/\s+/).map(Number)
    return { from, to }
  } catch (error) {
    throw new HostError('HOST_SYSCTL', `${FILE} can't be read: ${reasonOf(error)}`, { cause: error })
  }
}

/**
 * False in a container, for one, where /proc/sys is read-only. Opening changes nothing; access(2) is no way to ask,
 * since it knows nothing of an ordinary user's capabilities.
 */
export function mayWritePortRange(): boolean {
  try {
    closeSync(openSync(FILE, 'r+'))
    return true
  } catch {
    return false
  }
}

/** Throws HostError HOST_SYSCTL if the kernel doesn't take the range. */
export function writePortRange(range: PortRange): void {
  let reason = 'the kernel kept another value'
  try {
    writeFileSync(FILE, `${range.from} ${range.to}\n`)
    if (sameRange(readPortRange(), range)) return
  } catch (error) {
    reason = reasonOf(error)
  }
  throw new HostError(
    'HOST_SYSCTL',
    `${FILE} can't be set to ${range.from}-${range.to} (${reason}): if /proc/sys is read-only here (a container), ` +
      'set net.ipv4.ip_local_port_range from outside before the start',
  )
}

/** A gateway's part in the port range, as its state file has it. */
export interface RangeClaim {
  /** The range from before the first of the gateways that run at the same time. */
  readonly original: PortRange
  /** What this gateway leaves to the host's own sockets. */
  readonly set: PortRange
}

/** What several gateways leave to the host's sockets, all together; undefined without any. */
function common(claims: readonly RangeClaim[]): PortRange | undefined {
  if (claims.length === 0) return undefined
  return {
    from: Math.max(...claims.map(({ set }) => set.from)),
    to: Math.min(...claims.map(({ set }) => set.to)),
  }
}

/** The port range between several gateways: who has claimed what. */
export interface RangeClaims {
  /** Of this gateway, from an earlier life that was killed, or while it runs; null or undefined if it has none. */
  readonly own: RangeClaim | null | undefined
  /** Of others that run. */
  readonly running: readonly RangeClaim[]
  /** Of others that were killed. */
  readonly killed: readonly RangeClaim[]
}

/**
 * What a gateway that starts claims (null: nothing), and what the kernel's range is to be. If the current range is not
 * the one that gateways have set, an administrator has changed it since, and it is the original.
 */
export function claimRange(
  current: PortRange,
  wanted: PortRange | null,
  { own, running, killed }: RangeClaims,
): { readonly claim: RangeClaim | null; readonly range: PortRange } {
  const before = [...(own ? [own] : []), ...running, ...killed]
  const isOurs = isSetBy(current, before)
  const original = (isOurs ? before[0]?.original : undefined) ?? current
  // One that needs none leaves an administrator's to those who do: nobody else would remember it.
  if (!wanted) return { claim: null, range: (isOurs ? common(running) : undefined) ?? original }
  const claim = { original, set: wanted }
  return { claim, range: common([claim, ...running]) ?? original }
}

/** What the range is to be when this gateway ends; undefined: as it is, since an administrator has changed it. */
export function releaseRange(current: PortRange, { own, running, killed }: RangeClaims): PortRange | undefined {
  if (!own || !isSetBy(current, [own, ...running, ...killed])) return undefined
  return common(running) ?? own.original
}

/** Each end is one of theirs: which of them ran when the range was set last is not known. */
const isSetBy = ({ from, to }: PortRange, claims: readonly RangeClaim[]): boolean =>
  claims.some(({ set }) => set.from === from) && claims.some(({ set }) => set.to === to)
