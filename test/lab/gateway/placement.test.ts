// The lab's check of which shard has which connection, by lists that are right and lists that are not.

import { describe, expect, it } from 'vitest'
import type { Connection } from '../../../src/control/api-client.ts'
import { parseMetrics } from '../../../src/lab/gateway/metrics-text.ts'
import { needlessHandovers, Placement } from '../../../src/lab/gateway/placement.ts'
import type { Flow } from '../../../src/lab/traffic/traffic.ts'

const FLOW: Flow = {
  protocol: 6,
  source: '10.0.0.2',
  sourcePort: 5000,
  destination: '203.0.113.2',
  destinationPort: 80,
}

function connection(shard: number, changes: Partial<Connection> = {}): Connection {
  const { protocol, ...ends } = FLOW
  const reply = { source: '203.0.113.2', sourcePort: 80, destination: '203.0.113.1', destinationPort: 20000 }
  return {
    shard,
    row: 1,
    protocol,
    origin: 'inside',
    timeout: 100,
    seenReply: true,
    assured: true,
    mapping: 1,
    original: { ...ends, packets: 3, bytes: 120, owner: shard },
    reply: { ...reply, packets: 2, bytes: 80, owner: shard },
    ...changes,
  }
}

function wrong(connections: readonly Connection[], flows: readonly Flow[] = [FLOW]): string[] {
  const placement = new Placement()
  for (const each of connections) placement.add(each)
  return placement.wrong(flows)
}

/** Another connection, of an inside port of its own. */
const other = (shard: number, port: number, owner = shard): Connection => {
  const plain = connection(shard)
  return {
    ...plain,
    original: { ...plain.original, sourcePort: port, owner },
    reply: { ...plain.reply, destinationPort: port, owner },
  }
}

describe('nothing is wrong with', () => {
  it('a flow whose connection is in the shard that owns both directions', () => {
    expect(wrong([connection(1), other(0, 5001)])).toEqual([])
  })

  it('two pings between the same hosts', () => {
    const ping = (id: number): Connection => {
      const { sourcePort, destinationPort, ...ends } = connection(0).original
      const { sourcePort: _, destinationPort: __, ...back } = connection(0).reply
      return connection(0, { protocol: 1, icmp: { type: 8, id, replyId: id + 100 }, original: ends, reply: back })
    }
    expect(wrong([ping(1), ping(2)], [])).toEqual([])
    expect(wrong([ping(1), ping(1)], [])).toHaveLength(2)
  })

  it('a connection that the traffic does not know and nobody answered', () => {
    expect(wrong([connection(0, { seenReply: false })], [])).toEqual([])
  })
})

describe('wrong is', () => {
  it('a connection in another shard than its owner', () => {
    expect(wrong([{ ...connection(1), shard: 0 }])).toEqual([
      'tcp 10.0.0.2:5000 to 203.0.113.2:80 is in shard 0, its owner by the rule is shard 1, ' +
        'that of its answers shard 1',
    ])
  })

  it('a connection whose answers belong to another shard', () => {
    const plain = connection(0)
    expect(wrong([{ ...plain, reply: { ...plain.reply, owner: 2 } }])).toHaveLength(1)
  })

  it('a connection in two shards', () => {
    const twice = { ...other(1, 5000), reply: { ...connection(1).reply, destinationPort: 30000 } }
    expect(wrong([connection(0), twice])).toEqual([
      'tcp 10.0.0.2:5000 to 203.0.113.2:80 is there twice: in shard 0 and in shard 1',
    ])
  })

  it('an external endpoint given twice', () => {
    const given = { ...other(1, 5001), reply: connection(1).reply }
    expect(wrong([connection(0), given])).toEqual([
      'tcp 10.0.0.2:5001 to 203.0.113.2:80 is there twice: in shard 0 and in shard 1',
    ])
  })

  it('a flow of the traffic that is nowhere', () => {
    expect(wrong([])).toEqual(['tcp 10.0.0.2:5000 to 203.0.113.2:80 is in no shard'])
  })

  it('a flow that was answered, though the shard saw no answer', () => {
    const plain = connection(0, { seenReply: false })
    expect(wrong([{ ...plain, reply: { ...plain.reply, packets: 0 } }])).toEqual([
      'tcp 10.0.0.2:5000 to 203.0.113.2:80 was answered, and shard 0 saw 3 packets and 0 answers',
    ])
  })

  it('told five times of a kind, and counted after that', () => {
    const strays = Array.from({ length: 7 }, (_, i) => other(0, 6000 + i, 1))
    const lines = wrong(strays, [])
    expect(lines).toHaveLength(6)
    expect(lines[5]).toBe('2 more: a connection is not in the shard that owns it')
  })
})

describe('hand-overs', () => {
  const told = (handed: Readonly<Record<string, number>>): string[] =>
    needlessHandovers(
      parseMetrics(
        [
          'natloom_received_packets_total{shard="0",side="inside"} 600',
          'natloom_received_packets_total{shard="1",side="inside"} 400',
          ...Object.entries(handed).map(([reason, n]) => `natloom_handovers_total{shard="0",reason="${reason}"} ${n}`),
        ].join('\n'),
      ),
    )
  const fine = [{}, { fragment: 500, 'known-fragment': 500, hairpin: 300, dispatch: 1000 }, { flow: 10 }]
  for (const handed of fine)
    it(`${JSON.stringify(handed)} of 1000 packets is as it should be`, () => expect(told(handed)).toEqual([]))

  it('of plain flows beyond one in a hundred are wrong', () => {
    expect(told({ flow: 10, 'icmp-error': 2, fragment: 100 })).toEqual([
      '12 of 1000 packets came to a shard that does not own them: flow 10, icmp-error 2',
    ])
  })
})
