// What the netlink watcher's reports of the gateway's interfaces mean to the coordinator: whether it can run on them,
// what an operator reads when they come and go, and which outside address they have. Nothing is kept here.

import { HostError } from '../../host/errors.ts'
import type { LinkReport } from '../../host/host-tables.ts'
import type { Addr } from '../../wire/address.ts'

/** Kinds of masters that take all frames of their ports for themselves (the kernel's rx_handler). */
const TAKE_ALL_FRAMES: readonly string[] = ['bridge', 'bond', 'team', 'openvswitch', 'hsr']

/**
 * Throws HostError HOST_INTERFACE unless each interface is there, has an Ethernet header, and gets its own frames.
 */
export function checkInterfaces(links: readonly LinkReport[]): void {
  for (const { name, present, ethernet, master } of links) {
    if (!present)
      throw new HostError(
        'HOST_INTERFACE',
        `there is no interface ${name} here: name one that \`ip link\` lists under inside or outside ` +
          '(NATLOOM_INSIDE, NATLOOM_OUTSIDE), or start natloom when it is there',
      )
    if (!ethernet)
      throw new HostError(
        'HOST_INTERFACE',
        `interface ${name} has no Ethernet header, as tunnels, PPP and the loopback: allowed are Ethernet-like ` +
          'interfaces (cards, bridges, VLANs, veth, bonds)',
      )
    if (master && TAKE_ALL_FRAMES.includes(master.kind))
      throw new HostError(
        'HOST_INTERFACE',
        `interface ${name} is part of the ${master.kind} ${master.name}, which takes all of its frames: name ` +
          `${master.name} instead, or take ${name} out of it`,
      )
  }
}

export interface LinkChange {
  readonly interface: string
  readonly level: 'info' | 'warn'
  readonly what: string
}

/** What to log from one report to the next; `before` is empty at the first report. */
export const linkChanges = (before: readonly LinkReport[], after: readonly LinkReport[]): LinkChange[] =>
  after.flatMap((link, port) => {
    const change = changeOf(before[port], link)
    return change ? [{ interface: link.name, ...change }] : []
  })

function changeOf(
  before: LinkReport | undefined,
  { present, index, up }: LinkReport,
): Omit<LinkChange, 'interface'> | undefined {
  if (!present) return before?.present ? { level: 'warn', what: 'the interface is gone: waiting for it' } : undefined
  if (before && before.index !== index) return { level: 'info', what: 'the interface is back' }
  if (up === (before?.up ?? true)) return undefined
  return up ? { level: 'info', what: 'the interface is up' } : { level: 'warn', what: 'the interface is down' }
}

/** The primary address of the first of these interfaces that has any address. */
export function firstAddress(links: readonly LinkReport[]): Addr | undefined {
  for (const { addresses } of links) {
    const first = addresses.find(({ primary }) => primary) ?? addresses[0]
    if (first) return first.address
  }
  return undefined
}
