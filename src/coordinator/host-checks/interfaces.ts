// Checks of the interfaces: whether natloom can work on them at all, and whether they carry anything now. While a
// gateway runs, interfaces/links.ts follows what becomes of them.

import type { LinkReport } from '../../host/host-tables.ts'
import { poolAddresses } from '../address-range.ts'
import { sharesAddress } from '../config.ts'
import { masterOf } from '../interfaces/links.ts'
import { error, type Finding, type HostCheck, warning } from './finding.ts'

export const interfaces: HostCheck = ({ inside }, host) =>
  host.links().flatMap((link, port) => faultsOf(link, port < inside.length))

function faultsOf(link: LinkReport, isInside: boolean): Finding[] {
  const { name, present, ethernet, enabled, up, addresses } = link
  const master = masterOf(link)
  if (!present)
    return [
      error(
        'HOST_INTERFACE',
        `there is no interface ${name} here`,
        'name one that `ip link` lists under inside or outside (NATLOOM_INSIDE, NATLOOM_OUTSIDE), or start natloom ' +
          'when it is there',
      ),
    ]
  if (!ethernet)
    return [
      error(
        'HOST_INTERFACE',
        `interface ${name} has no Ethernet header, as tunnels, PPP and the loopback`,
        'allowed are Ethernet-like interfaces (cards, bridges, VLANs, veth, bonds)',
      ),
    ]
  if (master)
    return [
      error(
        'HOST_INTERFACE',
        `interface ${name} is part of the ${master.kind} ${master.name}, which takes all of its frames`,
        `name ${master.name} instead, or take ${name} out of it`,
      ),
    ]
  const down = enabled
    ? warning(`interface ${name} has no carrier`, 'look at the cable, or at the other end of it')
    : warning(`interface ${name} is down`, `ip link set ${name} up`)
  const bare = warning(
    `inside interface ${name} has no IPv4 address, so hosts behind it have no gateway to send to`,
    `ip address add ADDRESS/LENGTH dev ${name}`,
  )
  return [...(up ? [] : [down]), ...(isInside && addresses.length === 0 ? [bare] : [])]
}

/** A pool's address that no interface has is the host's by a route alone: the kernel may not answer ARP for it. */
export const poolArp: HostCheck = (config, host) => {
  const own = new Set(host.links().flatMap(({ addresses }) => addresses.map(({ address }) => address)))
  if (poolAddresses(config.nat.pool).every((address) => own.has(address))) return []
  return host
    .links()
    .slice(config.inside.length)
    .filter(({ name, present }) => present && host.arpIgnore(name) !== 0)
    .map(({ name }) =>
      warning(
        `net.ipv4.conf.all.arp_ignore or that of ${name} is ${host.arpIgnore(name)}, so the kernel answers ARP for ` +
          'no address of the pool that no interface has: nothing comes back to them',
        `sysctl -w net.ipv4.conf.all.arp_ignore=0 net/ipv4/conf/${name}/arp_ignore=0, or have the router route the ` +
          'pool to this host',
      ),
    )
}

/** natloom finds its way by the tables local and main alone. */
export const policyRules: HostCheck = (_, host) => {
  const priorities = host.policyRules()
  if (priorities.length === 0) return []
  return [
    warning(
      `this host has policy rules (ip rule, priorities ${priorities.join(', ')}): natloom routes by the tables local ` +
        'and main alone',
      'see that what natloom carries has its routes there (ip route show table main)',
    ),
  ]
}

/** Without a pool, natloom translates to an outside interface's own address, and waits until there is one. */
export const outsideAddress: HostCheck = (config, host) => {
  const outside = host.links().slice(config.inside.length)
  if (!sharesAddress(config) || outside.some(({ addresses }) => addresses.length > 0)) return []
  const names = config.outside.join(', ')
  return [
    warning(
      `no outside interface (${names}) has an IPv4 address: natloom waits for one, and translates nothing until then`,
      `ip address add ADDRESS/LENGTH dev ${config.outside[0]}, or a DHCP client there, or addresses under nat.pool`,
    ),
  ]
}
