// What a replay does with single packets: which side they are of, how their translation is undone, which checksums are
// completed, and that no packet ends it, however damaged it is.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fragments, frame } from '../../src/testing/builder.ts'
import { parsePrefix } from '../../src/wire/address.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import { decode } from '../datapath/packets.ts'
import { pcap } from '../io/captures.ts'
import { named, played } from './played.ts'
import { CLIENT, ftpSession, SERVER, Story } from './story.ts'

describe('an answer to an echo request', () => {
  it('has its translation undone by its identifier, in whatever shard the request was', async () => {
    const story = new Story()
    const ids = Array.from({ length: 12 }, (_, i) => 100 * i + 1)
    for (const id of ids) {
      story.add(frame({ ip: { src: CLIENT.address, dst: SERVER.address }, icmp: { type: 8, id } }))
      story.add(frame({ ip: { src: SERVER.address, dst: CLIENT.address }, icmp: { type: 0, id } }))
    }
    for (const workers of [1, 4]) {
      const { summary, inside } = await played(story.pcap, { workers })
      expect(summary).toMatchObject({ toInside: 12, toOutside: 12, drops: new Map(), connections: 12 })
      expect(inside.map((bytes) => [decode(bytes).dst, Buffer.from(decode(bytes).body).readUInt16BE(4)])).toEqual(
        ids.map((id) => [CLIENT.address, id]),
      )
    }
  })
})

describe('an answer in fragments', () => {
  it('has its translation undone piece by piece', async () => {
    const story = new Story()
    const ports = Array.from({ length: 8 }, (_, i) => 1000 + i)
    const payload = 'answers '.repeat(400)
    for (const port of ports) {
      const [client, server] = [CLIENT.address, SERVER.address]
      story.add(frame({ ip: { src: client, dst: server }, udp: { sport: port, dport: 53 }, payload: 'asks' }))
      const ip = { src: server, dst: client, id: port }
      for (const piece of fragments(frame({ ip, udp: { sport: 53, dport: port }, payload }), 1480)) story.add(piece)
    }
    for (const workers of [1, 4]) {
      const { summary, inside } = await played(story.pcap, { workers })
      expect(summary).toMatchObject({ toInside: 24, toOutside: 8, drops: new Map() })
      for (const port of ports) {
        // What is translated has an identification of the gateway's.
        const all = inside.map(decode).filter(({ dst }) => dst === CLIENT.address)
        const first = all.find(({ offset, body }) => offset === 0 && Buffer.from(body).readUInt16BE(2) === port)
        const pieces = all.filter(({ id }) => id === first?.id)
        const body = Buffer.concat(pieces.map(({ body }) => body))
        expect([body.readUInt16BE(2), body.toString('latin1', 8)]).toEqual([port, payload])
      }
    }
  })
})

describe('an ICMP error from outside', () => {
  for (const [what, header, bytes] of [
    ['a datagram', { udp: { sport: 1000, dport: 53 } }, 28],
    ['a whole datagram', { udp: { sport: 1000, dport: 53 } }, 32],
    ['a whole segment', { tcp: { sport: 1000, dport: 80, flags: 'S' } }, 44],
    ['eight bytes of a segment', { tcp: { sport: 1000, dport: 80, flags: 'S' } }, 28],
    ['an echo request', { icmp: { type: 8, id: 77 } }, 32],
  ] as const)
    it(`about ${what} has its translation undone with what it embeds, and comes as it was captured`, async () => {
      const story = new Story()
      const asked = frame({ ip: { src: CLIENT.address, dst: SERVER.address }, ...header, payload: 'asks' })
      story.add(asked)
      const embedded = asked.subarray(14, 14 + bytes)
      const error = frame({ ip: { src: '198.51.100.9', dst: CLIENT.address }, icmp: { type: 3, code: 3, embedded } })
      story.add(error)
      const { summary, inside } = await played(story.pcap)
      expect(summary).toMatchObject({ toInside: 1, toOutside: 1, drops: new Map() })
      expect(decode(inside[0]!)).toMatchObject({ src: '198.51.100.9', dst: CLIENT.address, type: 3, code: 3 })
      // The embedded packet's checksums, too.
      expect(decode(inside[0]!).embedded).toEqual(decode(error).embedded)
    })
})

describe('packets', () => {
  it('are told one by one if they are asked for', async () => {
    const { events } = await played(ftpSession().pcap, { packetEvents: true })
    const packets = named(events, 'packet')
    expect(packets.slice(0, 3)).toEqual([
      {
        event: 'packet',
        frame: 1,
        direction: 'original',
        verdict: 'accept',
        reason: null,
        ctinfo: 'NEW',
        state: 'SYN_SENT',
      },
      {
        ...{ event: 'packet', frame: 2, direction: 'reply', verdict: 'accept', reason: null },
        ...{ ctinfo: 'ESTABLISHED_REPLY', state: 'SYN_RECV' },
      },
      {
        ...{ event: 'packet', frame: 3, direction: 'original', verdict: 'accept', reason: null },
        ...{ ctinfo: 'ESTABLISHED', state: 'ESTABLISHED' },
      },
    ])
    expect(packets.find(({ frame }) => frame === 16)).toMatchObject({ direction: 'original', ctinfo: 'RELATED' })
  })

  it('that are no IPv4, or between hosts of one side, are counted and passed over', async () => {
    const story = ftpSession()
    const ethernet = (type: number, payload: string) =>
      Buffer.concat([Buffer.alloc(12), Buffer.from([type >> 8, type & 255]), Buffer.from(payload)])
    const between = (src: string, dst: string) => frame({ ip: { src, dst }, udp: { sport: 1, dport: 2 } })
    story.add(ethernet(0x86dd, '6'.repeat(40)))
    story.add(ethernet(0x0806, 'a'.repeat(28)))
    story.add(between('192.0.2.7', '192.0.2.8'))
    const { summary } = await played(story.pcap)
    expect(Object.fromEntries(summary.passedOver)).toEqual({ ipv6: 1, arp: 1, 'one-side': 1 })
  })

  it('are inside by prefix, or because they came first', async () => {
    const story = new Story()
    story.add(frame({ ip: { src: '198.18.0.9', dst: '192.0.2.7' }, udp: { sport: 1000, dport: 53 } }))
    story.add(frame({ ip: { src: '198.18.0.8', dst: '192.0.2.7' }, udp: { sport: 1000, dport: 53 } }))
    expect((await played(story.pcap)).summary.toOutside).toBe(1)
    expect((await played(story.pcap, { inside: [parsePrefix('198.18.0.0/15')] })).summary.toOutside).toBe(2)
  })

  it('have their checksums completed where only the pseudo-header was summed', async () => {
    const story = new Story()
    const udp = { ip: { src: CLIENT.address, dst: SERVER.address }, udp: { sport: 1000, dport: 53 }, payload: 'asks' }
    story.add(frame({ ...udp, partialChecksum: true }))
    expect((await played(story.pcap)).summary).toMatchObject({ completed: 1, toOutside: 1 })
    const left = await played(story.pcap, { completeChecksums: false })
    expect(Object.fromEntries(left.summary.drops)).toEqual({ 'udp-checksum': 1 })
  })

  it('have those completed that were left out altogether, and none that are wrong', async () => {
    const syn = (change: (mem: DataView) => void): Uint8Array => {
      const tcp = { sport: 1000, dport: 80, flags: 'S' }
      const bytes = frame({ ip: { src: CLIENT.address, dst: SERVER.address }, tcp })
      change(new DataView(bytes.buffer, bytes.byteOffset))
      return bytes
    }
    const [header, transport] = [14 + 10, 14 + 20 + 16]
    const summaryOf = async (bytes: Uint8Array) => {
      const { completed, toOutside } = (await played(pcap([{ seconds: 1, fraction: 0, bytes }]))).summary
      return { completed, toOutside }
    }
    expect(await summaryOf(syn((mem) => mem.setUint16(transport, 0)))).toEqual({ completed: 1, toOutside: 1 })
    expect(await summaryOf(syn((mem) => mem.setUint16(header, 0)))).toEqual({ completed: 1, toOutside: 1 })
    for (const field of [header, transport]) {
      const wrong = syn((mem) => mem.setUint16(field, mem.getUint16(field) ^ 0x100))
      expect(await summaryOf(wrong)).toEqual({ completed: 0, toOutside: 0 })
    }
  })
})

describe('whatever a capture holds', () => {
  /** Frames of sessions and of other packets whose translation is undone, most of them damaged somewhere. */
  function damaged(count: number, seed: number): Buffer {
    const embedded = ftpSession().frames[3]!.bytes.subarray(14, 54)
    const remote = { src: '192.0.2.9', dst: CLIENT.address }
    const whole = [
      ...ftpSession().frames.map(({ bytes }) => bytes),
      frame({ ip: remote, icmp: { type: 3, code: 1, embedded } }),
      frame({ ip: remote, icmp: { type: 0, id: 3, seq: 1 } }),
      frame({ ip: { ...remote, moreFragments: true }, udp: { sport: 1, dport: 2 }, payload: 'x'.repeat(64) }),
      frame({ ip: { ...remote, fragmentOffset: 64 }, protocol: { number: 17 }, payload: 'x'.repeat(64) }),
    ]
    const damage = fc.record({
      of: fc.nat(whole.length - 1),
      changes: fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }),
      cut: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(60) }),
      sums: fc.boolean(),
    })
    const frames = fc.sample(damage, { numRuns: count, seed }).map(({ of, changes, cut, sums }, i) => {
      const bytes = Uint8Array.from(whole[of]!.subarray(0, Math.max(20, whole[of]!.length - cut)))
      for (const [at, to] of changes) bytes[14 + (at % (bytes.length - 14))] = to
      const mem = new DataView(bytes.buffer)
      if (sums && ipv4.fits(mem, 14, bytes.length)) ipv4.writeChecksum(mem, 14)
      return { seconds: 1_700_000_000 + (i >> 6), fraction: 0, bytes }
    })
    // A session whose announcement was rewritten, so that later frames are shifted by its sequence edits.
    return pcap([...ftpSession().frames.slice(0, 12), ...frames])
  }
  const inside = [parsePrefix('10.0.0.0/8')]

  it('is replayed to its end, and every packet has a verdict', async () => {
    const { events, summary } = await played(damaged(3000, 1), { inside, packetEvents: true, workers: 2 })
    const passedOver = [...summary.passedOver.values()].reduce((sum, count) => sum + count, 0)
    expect(new Set(named(events, 'packet').map(({ frame }) => frame)).size).toBe(summary.frames - passedOver)
  })

  it('is dropped, if it ends within its header, also where numbers are to be adjusted', async () => {
    const frames = ftpSession().frames.slice(0, 12)
    for (const of of [10, 11]) {
      const bytes = Uint8Array.from(frames[of]!.bytes)
      bytes[14 + 20 + 12] = 0xf0
      frames.push({ ...frames[11]!, bytes })
    }
    const { summary } = await played(pcap(frames))
    expect(Object.fromEntries(summary.drops)).toEqual({ 'tcp-data-offset': 2 })
  })

  it('is the same to several shards, where no ports are chosen', async () => {
    const capture = damaged(3000, 2)
    const lines = async (workers: number): Promise<string[]> => {
      const { events } = await played(capture, { inside, packetEvents: true, workers, translate: false })
      return events.map(({ shard, ...event }) => JSON.stringify(event)).toSorted()
    }
    expect(await lines(3)).toEqual(await lines(1))
  })
})
