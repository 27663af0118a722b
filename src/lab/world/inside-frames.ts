// Counts what must never leave a NAT gateway: frames with a source inside, as they come to the outside host, before
// anything there looks at them. Authority: nft(8). Owner of the table: who makes the counter; it goes with its host.

import type { Namespace } from './namespace.ts'
import { INSIDE_PREFIX } from './topology.ts'

const TABLE = 'ip inside_frames'

export class InsideFrames {
  readonly #outside: Namespace

  constructor(outside: Namespace) {
    this.#outside = outside
    outside.exec('nft', `add table ${TABLE}`)
    outside.exec('nft', `add chain ${TABLE} arriving { type filter hook prerouting priority -500; }`)
    outside.exec('nft', `add rule ${TABLE} arriving ip saddr ${INSIDE_PREFIX} counter`)
  }

  /** Frames since it was made. */
  count(): number {
    const packets = /packets (\d+)/.exec(this.#outside.exec('nft', 'list', 'table', ...TABLE.split(' ')))
    if (!packets) throw new Error(`the table ${TABLE} of ${this.#outside.name} is gone`)
    return Number(packets[1])
  }
}

/**
 * Has a gateway's kernel forward by itself, so that what the gateway doesn't hide from it leaves untranslated and is
 * counted.
 */
export const setForwarding = (host: Namespace, isOn: boolean): string =>
  host.exec('sh', '-c', `echo ${Number(isOn)} > /proc/sys/net/ipv4/ip_forward`)
