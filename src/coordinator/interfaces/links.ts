// What the netlink watcher's reports of the gateway's interfaces mean to the coordinator: what an operator reads when
// they come and go, and which outside address they have. Nothing is kept here.

import type { LinkReport } from '../../host/host-tables.ts'
import type { Addr } from '../../wire/address.ts'

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

/** Kinds of masters that take all frames of their ports for themselves (the kernel's rx_handler). */
const TAKE_ALL_FRAMES: readonly string[] = ['bridge', 'bond', 'team', 'openvswitch', 'hsr']

/** What takes all frames of the interface, so that it delivers none here. */
export const masterOf = ({ master }: LinkReport): LinkReport['master'] =>
  master && TAKE_ALL_FRAMES.includes(master.kind) ? master : undefined

function changeOf(before: LinkReport | undefined, link: LinkReport): Omit<LinkChange, 'interface'> | undefined {
  const { present, index, up, renamedTo } = link
  const master = masterOf(link)
  if (!present && renamedTo !== before?.renamedTo && renamedTo !== undefined)
    return {
      level: 'warn',
      what: `the interface was renamed to ${renamedTo}: nothing passes by it until it has its name again`,
    }
  if (!present) return before?.present ? { level: 'warn', what: 'the interface is gone: waiting for it' } : undefined
  if (master && before && masterOf(before)?.name !== master.name)
    return { level: 'warn', what: `the ${master.kind} ${master.name} takes all frames of the interface now` }
  if (before && !master && masterOf(before)) return { level: 'info', what: 'the interface has its frames again' }
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
