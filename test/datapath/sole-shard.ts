// The settings of a gateway with one shard and one inside and one outside port, as tests and benches begin with: every
// word that has a default has it, tables are small, and keys are fixed, so that a run is the same every time.

import { UNLIMITED } from '../../src/conntrack/host-quotas.ts'
import { DEFAULT_TIMEOUTS } from '../../src/conntrack/timeouts.ts'
import type { ShardSettings } from '../../src/datapath/shard-contract.ts'
import { DEFAULT_NAT } from '../../src/nat/settings.ts'

export const SOLE_SHARD: ShardSettings = {
  shard: 0,
  shards: 1,
  restarted: false,
  epoch: 1,
  ownerKey: 0x5eed,
  sides: [0, 1],
  hashKey: [0x03020100, 0x07060504],
  connections: 1024,
  mappings: 1024,
  externals: { capacity: 2, blockSize: 64 },
  fib: { ports: 2, shards: 1 },
  expectations: 64,
  hosts: 64,
  limits: UNLIMITED,
  tcp: { pickup: false, liberal: false, answerUnsolicited: true },
  timeouts: DEFAULT_TIMEOUTS,
  nat: DEFAULT_NAT,
  portForwards: [],
  filter: [],
  icmpErrorsPerSecond: 1000,
}
