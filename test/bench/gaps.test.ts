// Which pause in the traffic is which crash's.

import { describe, expect, it } from 'vitest'
import { gapsOf } from '../../bench/kill/gaps.ts'
import type { Connection } from '../../src/control/api-client.ts'

const stream = (sourcePort: number, ...pauses: readonly (readonly [from: number, to: number])[]) => ({
  flow: { protocol: 17, source: '10.0.0.2', sourcePort, destination: '203.0.113.2', destinationPort: 7 } as const,
  sent: 0,
  received: 0,
  lost: 0,
  pauses: pauses.map(([from, to]) => ({ from, to })),
})

const connection = (shard: number, sourcePort: number): Connection => {
  const ends = { destination: '203.0.113.2', destinationPort: 7, packets: 1, bytes: 36, owner: shard }
  return {
    shard,
    row: 1,
    protocol: 17,
    origin: 'inside',
    timeout: 300,
    seenReply: true,
    assured: true,
    mapping: 1,
    original: { source: '10.0.0.2', sourcePort, ...ends },
    reply: { source: '203.0.113.2', sourcePort: 7, ...ends },
  }
}

const crash = (worker: string, at: number) => ({ worker, reason: '', at })
const LISTED = [connection(0, 1000), connection(1, 1001), connection(1, 1002)]

describe('the gap that a crash makes', () => {
  it('is the longest pause around it on the streams of its shard', () => {
    const streams = [stream(1000, [5000, 5900]), stream(1001, [5050, 5200]), stream(1002, [5060, 5300], [9000, 9500])]
    expect(gapsOf([crash('shard 1', 5100)], streams, LISTED)).toEqual({ gaps: [240], calm: 900 })
  })

  it('is zero if none of its streams has paused', () => {
    expect(gapsOf([crash('shard 0', 5100)], [stream(1000), stream(1001, [5000, 5200])], LISTED)).toEqual({
      gaps: [0],
      calm: 200,
    })
  })

  it('may be logged a little after its end', () => {
    expect(gapsOf([crash('shard 0', 5230)], [stream(1000, [5000, 5200])], LISTED).gaps).toEqual([200])
    expect(gapsOf([crash('shard 0', 5260)], [stream(1000, [5000, 5200])], LISTED).gaps).toEqual([0])
  })

  it('is any stream’s if the dispatcher crashed', () => {
    expect(gapsOf([crash('the dispatcher', 5100)], [stream(1000), stream(1002, [5000, 5200])], LISTED).gaps).toEqual([
      200,
    ])
  })
})
