import { describe, expect, it } from 'vitest'
import { parseMetrics, sum, sumBy } from '../../../src/lab/gateway/metrics-text.ts'
import { gatewayFigures } from '../../../src/lab/screen/picture.ts'

const TEXT = `# HELP natloom_dropped_packets_total Packets dropped, by reason
# TYPE natloom_dropped_packets_total counter
natloom_dropped_packets_total{reason="ttl-expired",shard="0"} 6
natloom_dropped_packets_total{reason="ttl-expired",shard="1"} 1
natloom_dropped_packets_total{reason="no-mapping",shard="0"} 11
natloom_dropped_packets_total{reason="ip-short",shard="0"} 0

natloom_received_packets_total{side="inside",shard="0"} 1.5e+3
natloom_received_packets_total{side="outside",shard="1"} 500
natloom_ports_used{protocol="udp",shard="0"} 42
process_start_time_seconds 1700000000.5
odd_metric{text="a \\"quoted\\" } brace, x=\\"1\\""} +Inf 1700000000000
`

describe('metrics as text', () => {
  it('are read with their labels, whatever the labels say', () => {
    const samples = parseMetrics(TEXT)
    expect(samples).toHaveLength(9)
    expect(samples.at(-2)).toEqual({ name: 'process_start_time_seconds', labels: {}, value: 1700000000.5 })
    expect(samples.at(-1)?.value).toBe(Infinity)
    expect(samples.at(-1)?.labels).toEqual({ text: 'a \\"quoted\\" } brace, x=\\"1\\"' })
  })

  it('are added up over shards', () => {
    const samples = parseMetrics(TEXT)
    expect(sum(samples, 'natloom_received_packets_total')).toBe(2000)
    expect(sum(samples, 'natloom_received_packets_total', { side: 'inside' })).toBe(1500)
    expect(sum(samples, 'natloom_no_such_metric')).toBe(0)
    expect(sumBy(samples, 'natloom_dropped_packets_total', 'reason').get('ttl-expired')).toBe(7)
  })

  it('make the summary: shards, ports, and the reasons that dropped anything, most first', () => {
    expect(gatewayFigures(parseMetrics(TEXT))).toMatchObject({
      shards: 2,
      received: 2000,
      sent: 0,
      connections: 0,
      portsUsed: 42,
      lost: { received: 0, sent: 0, handed: 0 },
      drops: [
        ['no-mapping', 11],
        ['ttl-expired', 7],
      ],
      slowCalls: 0,
      expectationsRefused: [],
      expectationsRemoved: [],
    })
  })
})
