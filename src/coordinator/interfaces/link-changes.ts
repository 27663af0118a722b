// What an operator wants to read when interfaces come and go.

import type { LinkReport } from '../../host/host-tables.ts'

export interface LinkChange {
  readonly interface: string
  readonly level: 'info' | 'warn'
  readonly what: string
}

/** From one report to the next; `before` is empty at the first. */
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
