import { describe, expect, it } from 'vitest'
import { parseMetrics } from '../../../src/lab/gateway/metrics-text.ts'
import type { Load } from '../../../src/lab/scenarios/scenario.ts'
import {
  gatewayFigures,
  gatewaySummary,
  lossLines,
  progressLine,
  shardTable,
  trafficTable,
} from '../../../src/lab/screen/picture.ts'
import { isRight, newTally, type Tally } from '../../../src/lab/traffic/traffic.ts'

const load = (name: string): Load => ({ name, start: async () => newTally(0) })
const tally = (values: Partial<Tally>): Tally => ({ ...newTally(100), ...values })

describe('what came of a load', () => {
  const judged = [
    // sent, arrived, wrong, problems                                right
    [{ sent: 100, arrived: 100 }, true],
    [{ sent: 100, arrived: 99 }, false],
    [{ sent: 100, arrived: 99, lost: 1 }, true],
    [{ sent: 99, arrived: 99 }, false],
    [{ sent: 100, arrived: 100, wrong: 1 }, false],
    [{ sent: 100, arrived: 100, problems: ['a connection did not close'] }, false],
  ] as const
  for (const [values, right] of judged)
    it(`${JSON.stringify(values)} of 100 is ${right ? 'right' : 'wrong'}`, () => {
      expect(isRight(tally(values as Partial<Tally>))).toBe(right)
    })
})

describe('what was lost', () => {
  const outcomes = [2, 0, 3].map((lost) => ({ load: load('datagrams'), tally: tally({ lost }) }))

  it("is the hosts' own as far as their counters go", () => {
    expect(lossLines(outcomes, { sockets: 4, links: 1 })).toEqual({
      lines: ['  lost by hosts    4 at sockets that were full, 1 at links that were'],
      wrong: [],
    })
  })

  it("is the gateway's beyond that", () => {
    expect(lossLines(outcomes, { sockets: 4, links: 0 }).wrong).toEqual([
      '5 datagrams did not come back, and the hosts lost 4: 4 at sockets that were full, 0 at links that were',
    ])
  })
})

describe('the picture', () => {
  it('shows how much of what was planned has arrived', () => {
    const line = progressLine({ load: load('echoes'), tally: tally({ sent: 60, arrived: 50, wrong: 2 }) })
    expect(line).toBe(`  ${'echoes'.padEnd(28)} ${'█'.repeat(10)}${'░'.repeat(10)}      50 of 100  2 wrong`)
  })

  it('ends in a table of what was sent and what arrived', () => {
    const outcomes = [
      { load: load('echoes'), tally: tally({ sent: 100, arrived: 100, bytes: 2_500_000 }) },
      { load: load('datagrams'), tally: tally({ sent: 100, arrived: 98, lost: 2 }) },
      { load: load('ping'), tally: tally({ sent: 100, arrived: 7 }) },
    ]
    expect(trafficTable(outcomes)).toEqual([
      '             sent  arrived  lost  wrong  payload',
      '  echoes      100      100     0      0   2.5 MB  right',
      '  datagrams   100       98     2      0   0.0 MB   LOST',
      '  ping        100        7     0      0   0.0 MB  WRONG',
    ])
  })

  it('tells what helpers came to, and what was announced in vain', () => {
    const samples = parseMetrics(
      [
        'natloom_helper_cut_offs_total{shard="0",reason="slow"} 1',
        'natloom_helper_cut_offs_total{shard="1",reason="done"} 2',
        'natloom_helper_cut_offs_total{shard="1",reason="threw"} 0',
        'natloom_helper_slow_calls_total{shard="0"} 6',
        'natloom_announcements_refused_total{shard="0",reason="not-allowed"} 3',
        'natloom_expectations_refused_total{shard="0",reason="full"} 4',
        'natloom_expectations_removed_total{shard="0",cause="withdrawn"} 5',
      ].join('\n'),
    )
    expect(gatewaySummary(gatewayFigures(samples), 0, '')).toEqual(
      expect.arrayContaining([
        '  helpers          cut off: done 2, slow 1; slow calls: 6; announcements refused: not-allowed 3',
        '  expectations     refused: full 4; removed unmatched: withdrawn 5',
      ]),
    )
    expect(gatewaySummary(gatewayFigures([]), 0, '')).toEqual(
      expect.arrayContaining([
        '  helpers          cut off: none; slow calls: 0; announcements refused: none',
        '  expectations     refused: none; removed unmatched: none',
      ]),
    )
  })

  it('tells the shards apart', () => {
    const samples = parseMetrics(
      [
        'natloom_connections{shard="0",protocol="tcp"} 1200',
        'natloom_connections{shard="1",protocol="udp"} 7',
        'natloom_received_packets_total{shard="0",side="inside"} 30',
        'natloom_received_packets_total{shard="0",side="outside"} 20',
        'natloom_received_packets_total{shard="1",side="inside"} 5',
        'natloom_sent_packets_total{shard="0",side="inside"} 49',
        'natloom_ports_used{shard="1",protocol="udp"} 3',
        'natloom_handovers_total{shard="0",reason="fragment"} 4',
        'natloom_handovers_total{shard="1",reason="fragment"} 0',
        'natloom_handovers_total{shard="1",reason="flow"} 0',
      ].join('\n'),
    )
    expect(shardTable(samples)).toEqual([
      '  shard  connections  packets in  out  ports  handed: fragment',
      '  0            1,200          50   49      0                 4',
      '  1                7           5    0      3                 0',
    ])
  })
})
