// What the configuration says of a port forward: an external endpoint that the operator has given to a server inside
// ("dictated", rule 2 of ownership/ownership-rule.ts). Each shard looks it up in port-forwards.shard.ts.
// Owner: the coordinator, which posts the list to the shards at their start.

import type { Addr, PortHost, ProtocolNumber } from '../wire/address.ts'

export interface PortForward {
  /** TCP or UDP, by number. */
  readonly protocol: ProtocolNumber
  /** null: every external address that there is. */
  readonly address: Addr | null
  readonly port: PortHost
  readonly toAddress: Addr
  readonly toPort: PortHost
}
