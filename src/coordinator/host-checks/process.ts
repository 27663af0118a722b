// Checks of what natloom needs of the machine and of its own process, whatever the network is like.

import { memoryPlan } from '../memory-plan.ts'
import { error, type Finding, type HostCheck, warning } from './finding.ts'

const MEGABYTE = 2 ** 20

/** Words of packets are compared as loaded, which must be little-endian (wire/address.ts). */
export const byteOrder: HostCheck = (_, host) =>
  host.isLittleEndian()
    ? []
    : [error('GATEWAY_BYTE_ORDER', 'this machine is big-endian', 'natloom runs on little-endian ones only')]

export const rights: HostCheck = (_, host) => {
  const missing = host.missingCapabilities()
  const mend =
    'run it as root, by its systemd unit, or in a container started with --cap-add NET_ADMIN --cap-add NET_RAW'
  return missing.length === 0 ? [] : [error('HOST_RIGHTS', `natloom lacks ${missing.join(' and ')}`, mend)]
}

export const tools: HostCheck = (_, host) =>
  host
    .missingTools()
    .map(({ tool, package: name }) =>
      error('HOST_TOOL', `the program ${tool} is missing`, `install it (Debian: apt install ${name})`),
    )

/**
 * Other natlooms: one that has the name, its nft table or an interface, and what a killed one has left. Throws
 * HostError HOST_IN_USE while one runs with the same state file.
 */
export const instances: HostCheck = ({ statePath }, host) => {
  const refusal = host.inUse()
  if (refusal !== undefined) return [error('HOST_IN_USE', refusal, '')]
  if (!host.leftBehind()) return []
  const what = `a natloom that was killed has left rules and settings on this host (${statePath})`
  return [warning(what, 'start natloom, which takes them over, and stop it, if they are to go')]
}

export const memory: HostCheck = (config, host) => {
  const rings = Math.ceil(memoryPlan(config).rings / MEGABYTE)
  const available = Math.floor(host.availableMemory() / MEGABYTE)
  if (rings <= available) return []
  const what = `receive rings take ${rings} MB at once, and this host has ${available} MB to spare`
  return [warning(what, 'lower io.ringMegabytes, or give the host more memory')]
}

/** natloom works the same with 0 and 1; what the kernel does beside it and without it doesn't. */
export const forwarding: HostCheck = ({ inside }, host): readonly Finding[] => {
  const forwards = host.forwards()
  if (!forwards && inside.length > 1)
    return [
      warning(
        `net.ipv4.ip_forward is 0, so hosts behind different inside interfaces (${inside.join(', ')}) don't reach ` +
          'each other: that is the kernel’s part',
        'sysctl -w net.ipv4.ip_forward=1, if they are to',
      ),
    ]
  if (forwards && inside.length === 1)
    return [
      warning(
        'net.ipv4.ip_forward is 1, so whenever natloom does not run the kernel forwards what comes from inside, with ' +
          'its inside addresses',
        'sysctl -w net.ipv4.ip_forward=0, unless this host routes for others too: natloom does not need it',
      ),
    ]
  return []
}
