// The range of ephemeral ports, which the kernel gives to the host's own sockets. On an address that NAT shares with
// the host it must lie outside of NAT's ports. Authority: ip_local_port_range in the kernel's ip-sysctl documentation.
// The setting belongs to the network namespace of the calling thread.

import { readFileSync, writeFileSync } from 'node:fs'
import { HostError, reasonOf } from './errors.ts'

export interface PortRange {
  readonly from: number
  /** Included. */
  readonly to: number
}

const FILE = '/proc/sys/net/ipv4/ip_local_port_range'

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
