// The rules of a gateway that has everything that makes a rule: shared and pool addresses, hidden ports, a protocol
// without ports, and forwarded ports of a shared and of another address.

import type { RuleSet } from '../../src/host/nft.ts'
import { addr } from './inside.ts'

const GRE = 47
const TCP = 6
const UDP = 17

export const RULES: RuleSet = {
  inside: ['lan0', 'lan1'],
  outside: ['wan0'],
  present: new Set(['lan0', 'lan1', 'wan0']),
  shared: [addr('203.0.113.2')],
  pool: [addr('203.0.113.50')],
  // 20480-20543 is a block in which the host has a socket.
  hidden: [
    { from: 16384, to: 20479 },
    { from: 20544, to: 60991 },
  ],
  protocols: [GRE],
  forwarded: [
    { protocol: UDP, address: null, port: 2121 },
    // Of another protocol, and of an address that isn't shared.
    { protocol: TCP, address: null, port: 5000 },
    { protocol: UDP, address: addr('203.0.113.3'), port: 5000 },
  ],
}
