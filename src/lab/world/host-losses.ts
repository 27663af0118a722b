// What hosts lose themselves: a socket whose program is not run in time overflows, and so does the queue of a link
// whose receiver is not. On a machine that has no time this happens with any gateway, so the lab counts it apart from
// what the gateway loses. Authority: RFC 2013's and Linux's counters of UDP (net/ipv4/proc.c), veth(4).

import type { Namespace } from './namespace.ts'

export interface HostLosses {
  /** Datagrams that came to a socket whose receive buffer was full. */
  readonly sockets: number
  /** Frames that a cable's other end had no room for. */
  readonly links: number
}

/** Of the UDP rows of /proc/net/snmp: names, then values. */
const UDP_ROW = /^Udp: (.*)$/gm
/** Of an interface in /proc/net/dev, which begins with this: sixteen numbers. */
const INTERFACES = 'Inter-|'
const INTERFACE_ROW = /^ *[^\s:]+: *(\d+(?: +\d+){15}) *$/gm
/** The twelfth of them: what was dropped instead of sent. */
const DROPPED_COLUMN = 11

/** What /proc/net/snmp and /proc/net/dev, one after the other, say was lost. */
export function readHostLosses(text: string): HostLosses {
  const [udp = '', interfaces = ''] = text.split(INTERFACES)
  const [names = [], values = []] = [...udp.matchAll(UDP_ROW)].map(([, row]) => (row as string).split(' '))
  const sockets = Number(values[names.indexOf('RcvbufErrors')])
  let links = 0
  for (const [, numbers] of interfaces.matchAll(INTERFACE_ROW))
    links += Number((numbers as string).split(/ +/)[DROPPED_COLUMN])
  if (!Number.isInteger(sockets + links)) throw new Error(`these are no counters of a host:\n${text}`)
  return { sockets, links }
}

/** Since these hosts were made. */
export function hostLosses(hosts: readonly Namespace[]): HostLosses {
  const each = hosts.map((host) => readHostLosses(host.exec('cat', '/proc/net/snmp', '/proc/net/dev')))
  return {
    sockets: each.reduce((sum, { sockets }) => sum + sockets, 0),
    links: each.reduce((sum, { links }) => sum + links, 0),
  }
}
