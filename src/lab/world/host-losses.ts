// What hosts lose themselves. The receive buffer of a socket overflows if its program doesn't run in time, and so does
// the queue of a link. On a busy machine this happens with any gateway, so the lab counts it apart from what the
// gateway loses. Authority: Linux's counters in /proc/net/snmp (RFC 2013; net/ipv4/proc.c) and /proc/net/dev; veth(4).

import type { Namespace } from './namespace.ts'

export interface HostLosses {
  /** Datagrams that came to a socket whose receive buffer was full. */
  readonly sockets: number
  /** Frames for which the other end of a cable had no room. */
  readonly links: number
}

/** The two UDP rows of /proc/net/snmp: names, then values. */
const UDP_ROW = /^Udp: (.*)$/gm
/** /proc/net/dev begins with this, and has a row of sixteen numbers for each interface. */
const INTERFACES = 'Inter-|'
const INTERFACE_ROW = /^ *[^\s:]+: *(\d+(?: +\d+){15}) *$/gm
/** The twelfth number: frames that were dropped instead of sent. */
const DROPPED_COLUMN = 11

/** Reads the losses from the text of /proc/net/snmp followed by that of /proc/net/dev. */
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

/** What these hosts have lost since they were made. */
export function hostLosses(hosts: readonly Namespace[]): HostLosses {
  const each = hosts.map((host) => readHostLosses(host.exec('cat', '/proc/net/snmp', '/proc/net/dev')))
  return {
    sockets: each.reduce((sum, { sockets }) => sum + sockets, 0),
    links: each.reduce((sum, { links }) => sum + links, 0),
  }
}
