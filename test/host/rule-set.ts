// The rules of a gateway that has everything that makes a rule: shared and pool addresses, contested ports, a protocol
// without ports, and forwarded ports of a shared and of another address.

import type { RuleSet } from '../../src/host/rules.ts'
import { addr } from './inside.ts'

const GRE = 47
const TCP = 6
const UDP = 17

export const RULES: RuleSet = {
  inside: { names: ['lan0', 'lan1'], indexes: [] },
  outside: { names: ['wan0'], indexes: [] },
  shared: [addr('203.0.113.2')],
  pool: [addr('203.0.113.50')],
  natPorts: { from: 16384, to: 60991 },
  contested: [
    { protocol: UDP, port: 20600 },
    { protocol: TCP, port: 20601 },
    { protocol: TCP, port: 20602 },
  ],
  protocols: [GRE],
  forwarded: [
    { protocol: UDP, address: null, port: 2121 },
    // Of another protocol, and of an address that isn't shared.
    { protocol: TCP, address: null, port: 5000 },
    { protocol: UDP, address: addr('203.0.113.3'), port: 5000 },
  ],
}
