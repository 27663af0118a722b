// `natloom drops`: its text.

import { expect, it } from 'vitest'
import type { Drops } from '../../src/control/api-client.ts'
import { dropsText } from '../../src/control/drops-command.ts'

const last = { secondsAgo: 2, protocol: 17, destination: '203.0.113.1', sourcePort: 53, destinationPort: 20_000 }
const DROPS: Drops = {
  interface: 'wan0',
  side: 'outside',
  reason: 'filtered',
  text: 'as it is said',
  packets: 1200,
  sources: [
    { source: '192.0.2.7', recent: 300, last },
    { source: '192.0.2.8', recent: 1, last: { ...last, protocol: 200, sourcePort: null, destinationPort: null } },
  ],
}

it('has a line for each interface and reason, and for each source of it', () => {
  expect(dropsText(DROPS)).toEqual([
    'wan0 outside filtered packets=1200',
    'wan0 outside filtered src=192.0.2.7 recent=300 ago=2 last=udp dst=203.0.113.1 sport=53 dport=20000',
    'wan0 outside filtered src=192.0.2.8 recent=1 ago=2 last=200 dst=203.0.113.1',
  ])
})
