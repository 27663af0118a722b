// `natloom hosts`: which inside host has how much of what it may have, as text or as JSON: those with most connections
// first. `others` are the hosts that share what one may have (conntrack/host-table.ts).

import type { Writable } from 'node:stream'
import { limitKeys } from '../coordinator/host-limits.ts'
import { answerOf, type Host, hosts } from './api-client.ts'
import { type Output, write } from './conntrack-command.ts'

/** Writes every host. Throws ApiClientError. */
export async function listHosts(socket: string, output: Output, to: Writable): Promise<void> {
  if (output === 'json') for await (const line of answerOf(socket, '/hosts')) await write(to, line)
  else for await (const host of hosts(socket)) await write(to, hostText(host))
}

/** `10.0.0.5 connections=12/65536 ports=10/11152 ... resting=2 refused=0`. */
export function hostText({ host, resting, refused, ...usages }: Host): string {
  const limits = limitKeys.map((key) => {
    const { used, limit } = usages[key]
    return `${key}=${limit === null ? used : `${used}/${limit}`}`
  })
  return [host, ...limits, `resting=${resting}`, `refused=${refused}`].join(' ')
}
