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
