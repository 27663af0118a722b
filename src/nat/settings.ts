// What an operator may choose about translation (RFC 4787 sections 4 and 5, RFC 7857). Plain data: it is posted to
// shards.

import type { ProtocolNumber } from '../wire/address.ts'

export type Dependence = 'endpoint-independent' | 'address-dependent' | 'address-and-port-dependent'

/** Which port an inside endpoint gets, as far as there is a choice (RFC 4787 section 4.2). */
export interface PortChoice {
  /** Try the inside port's own number first. */
  preservePorts: boolean
  /** Even ports become even ones, odd ports odd ones, as long as there are any (RFC 4787 REQ-4). */
  parity: boolean
}

export interface NatSettings extends PortChoice {
  /** False: connections are tracked, and nobody's address changes (a replay's --no-nat). */
  translate: boolean
  /** On what of the remote endpoint the choice of an external port depends. */
  mapping: Dependence
  /** On what of the remote endpoint it depends whether it may send to a mapping. */
  filtering: Dependence
  /** Protocols without ports that are translated, by number; 1:1 with a remote address (GRE, ESP ...). */
  protocols: readonly ProtocolNumber[]
}

export const DEFAULT_NAT: NatSettings = {
  translate: true,
  mapping: 'endpoint-independent',
  filtering: 'address-dependent',
  preservePorts: false,
  parity: true,
  protocols: [],
}

const DEPENDS_ON_ADDRESS: readonly Dependence[] = ['address-dependent', 'address-and-port-dependent']
export const dependsOnAddress = (choice: Dependence): boolean => DEPENDS_ON_ADDRESS.includes(choice)
export const dependsOnPort = (choice: Dependence): boolean => choice === 'address-and-port-dependent'
