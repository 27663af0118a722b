// `natloom hosts`: its text.

import { describe, expect, it } from 'vitest'
import type { Host } from '../../src/control/api-client.ts'
import { hostText } from '../../src/control/hosts-command.ts'

const HOST: Host = {
  host: '10.0.0.5',
  connections: { used: 12, limit: 65_536 },
  ports: { used: 10, limit: 11_152 },
  newConnections: { used: 3, limit: 4000 },
  expectations: { used: 1, limit: 1024 },
  icmpErrors: { used: 0, limit: 250 },
  waitingPackets: { used: 0, limit: 384 },
  sequenceEdits: { used: 2, limit: 1024 },
  helpedConnections: { used: 3, limit: 4096 },
  fragmentRecords: { used: 0, limit: null },
  resting: 2,
  refused: 0,
}
const REST =
  'newConnections=3/4000 expectations=1/1024 icmpErrors=0/250 waitingPackets=0/384 sequenceEdits=2/1024 ' +
  'helpedConnections=3/4096 fragmentRecords=0'

describe('an inside host', () => {
  const written: readonly (readonly [Partial<Host>, string])[] = [
    [{}, `10.0.0.5 connections=12/65536 ports=10/11152 ${REST} resting=2 refused=0`],
    [
      { host: 'others', connections: { used: 7, limit: null }, refused: 5 },
      `others connections=7 ports=10/11152 ${REST} resting=2 refused=5`,
    ],
  ]
  for (const [said, text] of written)
    it(`is written as ${text}`, () => {
      expect(hostText({ ...HOST, ...said })).toBe(text)
    })
})
