// Checks that a gateway that has stopped left its host as it was: nft tables, local port range, routes that bear
// natloom's protocol number, state file. They are read before the gateway starts and after it has ended, and must be
// equal.

import { existsSync } from 'node:fs'
import type { Namespace } from '../world/namespace.ts'

const PORT_RANGE = '/proc/sys/net/ipv4/ip_local_port_range'
/** The protocol number of routes that natloom adds. */
const ROUTE_PROTOCOL = '99'

export type HostState = Readonly<Record<string, string>>

/** What the gateway may change on its host, as text. */
export function hostState(host: Namespace, stateFile: string): HostState {
  return {
    'nft tables': host.exec('nft', 'list', 'tables').trim(),
    'net.ipv4.ip_local_port_range': host.exec('cat', PORT_RANGE).trim().replace('\t', ' '),
    'routes of protocol 99': host.ip(`route show table all proto ${ROUTE_PROTOCOL}`).trim(),
    'state file': existsSync(stateFile) ? stateFile : '',
  }
}

/** A line for each thing that is not as it was. */
export const leftBehind = (before: HostState, after: HostState): string[] =>
  Object.keys(before)
    .filter((what) => before[what] !== after[what])
    .map((what) => `left behind: ${what}: ${after[what] || 'nothing'}; it was: ${before[what] || 'nothing'}`)
