// A replay: a capture goes in; events and captures of both sides come out.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openCapture } from '../../src/io/pcap-file.ts'
import { frame } from '../../src/testing/builder.ts'
import { segmentOf } from '../datapath/helped/dialogue.ts'
import { decode } from '../datapath/packets.ts'
import { pcap } from '../io/captures.ts'
import { type Event, folder, MASTER, named, OUTSIDE, played, textOf } from './played.ts'
import { CLIENT, ftpSession, SERVER, Story } from './story.ts'

describe('an FTP session', () => {
  it('is read, expected and translated', async () => {
    const story = ftpSession()
    const { summary, events, inside, outside } = await played(story.pcap)
    expect(named(events, 'expect-new')).toEqual([
      {
        ...{ event: 'expect-new', frame: 10, helper: 'ftp', proto: 'tcp' },
        ...{ src: SERVER.address, sport: 0, dst: CLIENT.address, dport: 40_000, master: MASTER },
      },
      {
        ...{ event: 'expect-new', frame: 28, helper: 'ftp', proto: 'tcp' },
        ...{ src: CLIENT.address, sport: 0, dst: SERVER.address, dport: 40_001, master: MASTER },
      },
    ])
    expect(named(events, 'expect-match').map(({ frame, dport }) => [frame, dport])).toEqual([
      [16, 40_000],
      [30, 40_001],
    ])
    expect(named(events, 'flow-new').map(({ src, sport, dport, master }) => [src, sport, dport, master])).toEqual([
      [CLIENT.address, CLIENT.port, 21, undefined],
      [SERVER.address, 20, expect.any(Number), MASTER],
      [CLIENT.address, CLIENT.port + 1, 40_001, MASTER],
    ])
    expect(textOf(outside)).toMatch(/PORT 203,0,113,1,\d+,\d+\r\nLIST/)
    // Every packet of the capture was sent on, with its length.
    expect([summary.drops.size, summary.toInside + summary.toOutside]).toEqual([0, summary.frames])
    expect(new Set(outside.map((bytes) => decode(bytes).src))).toEqual(new Set([OUTSIDE]))
    expect(new Set(inside.map((bytes) => decode(bytes).dst))).toEqual(new Set([CLIENT.address]))
    // A packet whose translation was undone, with its sequence numbers shifted, is sent as it was captured.
    const numbers = (bytes: Uint8Array) => [segmentOf(bytes).seq, segmentOf(bytes).ack, segmentOf(bytes).text]
    const captured = story.frames.map(({ bytes }) => bytes).filter((bytes) => decode(bytes).src === SERVER.address)
    expect(inside.map(numbers)).toEqual(captured.map(numbers))
    expect(textOf(inside)).toContain('227 Entering Passive Mode (192,0,2,7,156,65)\r\n')
    expect(named(events, 'flow-end')).toEqual([])
  })

  it('is only tracked with --no-nat: the same expectations, and not a byte changed', async () => {
    const story = ftpSession()
    const endsOf = (bytes: Uint8Array) => {
      const { src, dst } = decode(bytes)
      const { seq, ack, text } = segmentOf(bytes)
      return { src, dst, seq, ack, text }
    }
    const sent = story.frames.map(({ bytes }) => endsOf(bytes))
    for (const workers of [1, 4]) {
      const { events, inside, outside } = await played(story.pcap, { translate: false, workers })
      expect(named(events, 'expect-new').map(({ frame, dport }) => [frame, dport])).toEqual([
        [10, 40_000],
        [28, 40_001],
      ])
      expect(named(events, 'expect-match')).toHaveLength(2)
      expect(outside.map(endsOf)).toEqual(sent.filter(({ src }) => src === CLIENT.address))
      expect(inside.map(endsOf)).toEqual(sent.filter(({ src }) => src === SERVER.address))
    }
  })

  it('goes the same way through several shards', async () => {
    const story = new Story()
    for (let i = 0; i < 6; i++) story.frames.push(...ftpSession({ ...CLIENT, port: 51_000 + 10 * i }).frames)
    const plain = ({ shard, reply, dport, ...event }: Event) =>
      JSON.stringify({ ...event, dport: event.src === SERVER.address ? 'chosen' : dport })
    const by = async (workers: number) => {
      const { events, summary, inside, outside } = await played(story.pcap, { workers })
      return { lines: events.map(plain), summary, sent: [inside.length, outside.length], shards: shardsOf(events) }
    }
    const shardsOf = (events: readonly Event[]) => new Set(named(events, 'flow-new').map(({ shard }) => shard)).size
    const one = await by(1)
    expect(
      named(
        one.lines.map((line) => JSON.parse(line)),
        'flow-new',
      ),
    ).toHaveLength(18)
    for (const workers of [2, 4]) {
      const several = await by(workers)
      expect(several.lines).toEqual(one.lines)
      expect([several.summary.drops, several.sent]).toEqual([one.summary.drops, one.sent])
      expect(several.shards).toBeGreaterThan(1)
    }
  })

  it('has no helper if none is asked for, or another port', async () => {
    const without = await played(ftpSession().pcap, { helpers: [] })
    expect(named(without.events, 'expect-new')).toEqual([])
    expect(without.summary.drops.get('no-mapping')).toBeGreaterThan(0)
    const elsewhere = await played(ftpSession().pcap, { helpers: [{ module: 'ftp', ports: [2121] }] })
    expect(named(elsewhere.events, 'expect-new')).toEqual([])
  })
})

describe('time', () => {
  it('is the capture’s: what nobody comes for ends, but nothing at the end', async () => {
    const story = new Story()
    const control = story.connect(CLIENT, SERVER)
    control.say(1, '220 ready').say(0, 'PORT 10,0,0,5,156,64')
    story.wait(301)
    control.say(0, 'PORT 10,0,0,5,156,66')
    const { events } = await played(story.pcap)
    expect(named(events, 'expect-expire').map(({ frame, dport, cause }) => [frame, dport, cause])).toEqual([
      [8, 40_000, 'timeout'],
    ])
    expect(named(events, 'expect-new')).toHaveLength(2)
  })

  it('ends connections at the same frame, whatever shards they are in', async () => {
    const story = new Story()
    const asks = (sport: number) =>
      story.add(frame({ ip: { src: CLIENT.address, dst: `198.51.100.${sport % 100}` }, udp: { sport, dport: 53 } }))
    for (let flow = 0; flow < 20; flow++) {
      asks(2000 + flow)
      story.wait(0.45)
    }
    story.wait(20)
    // Frames that follow each other so closely that all shards are told the time only once.
    for (let each = 0; each < 160; each++) {
      asks(3000)
      story.wait(0.069)
    }
    const ends = async (workers: number) => {
      const { events } = await played(story.pcap, { workers })
      return named(events, 'flow-end').map(({ frame, sport }) => `${frame} ${sport}`)
    }
    const one = await ends(1)
    expect(one).toHaveLength(20)
    for (const workers of [2, 4]) expect((await ends(workers)).sort()).toEqual([...one].sort())
  })
})

describe('events', () => {
  it('are told of every connection, however many a gap in the capture ends at once', async () => {
    const story = new Story()
    const count = 5000
    for (let i = 0; i < count; i++) {
      const src = `10.1.${i >> 8}.${i & 255}`
      story.add(frame({ ip: { src, dst: SERVER.address }, udp: { sport: 2000, dport: 7 } }))
    }
    story.wait(3600)
    story.add(frame({ ip: { src: CLIENT.address, dst: SERVER.address }, udp: { sport: 2000, dport: 7 } }))
    const { events, summary } = await played(story.pcap)
    expect(named(events, 'flow-end').filter(({ frame }) => frame === count + 1)).toHaveLength(count)
    expect(summary.lostEvents).toBe(0)
  })

  it('name a query’s type and identifiers', async () => {
    const story = new Story()
    story.add(frame({ ip: { src: CLIENT.address, dst: SERVER.address }, icmp: { type: 8, id: 2077, seq: 1 } }))
    const { events } = await played(story.pcap)
    expect(named(events, 'flow-new')).toMatchObject([
      { proto: 'icmp', src: CLIENT.address, dst: SERVER.address, type: 8, id: 2077, reply: { type: 8, id: 2077 } },
    ])
  })

  it('know a master that has ended before its connection', async () => {
    const story = new Story()
    const control = story.connect(CLIENT, SERVER)
    control.say(1, '220 ready').say(0, 'PORT 10,0,0,5,156,64')
    const data = story.connect({ ...SERVER, port: 20 }, { ...CLIENT, port: 40_000 })
    control.close()
    story.wait(241)
    data.say(0, 'a listing')
    story.wait(7441)
    story.add(frame({ ip: { src: CLIENT.address, dst: SERVER.address }, udp: { sport: 2000, dport: 7 } }))
    const { events } = await played(story.pcap)
    const master = { src: CLIENT.address, sport: CLIENT.port, dst: SERVER.address, dport: SERVER.port }
    expect(named(events, 'flow-end').map(({ sport, master }) => [sport, master])).toEqual([
      [CLIENT.port, undefined],
      [20, master],
    ])
  })

  it('say that an expectation has waited too long, also where its master ends in the same gap', async () => {
    const story = new Story()
    story.connect(CLIENT, SERVER).say(1, '220 ready').say(0, 'PORT 10,0,0,5,156,64')
    story.wait(7500)
    story.add(frame({ ip: { src: CLIENT.address, dst: SERVER.address }, udp: { sport: 2000, dport: 7 } }))
    const { events } = await played(story.pcap)
    expect(named(events, 'expect-expire').map(({ cause }) => cause)).toEqual(['timeout'])
    expect(named(events, 'flow-end')).toHaveLength(1)
  })
})

describe('a file', () => {
  it('that is no capture is an error with a code', async () => {
    for (const [bytes, code] of [
      [Buffer.alloc(0), 'PCAP_EMPTY'],
      [Buffer.from('not a capture at all'), 'PCAP_FOREIGN'],
      [ftpSession().pcap.subarray(0, 200), 'PCAP_TRUNCATED'],
      [pcap(ftpSession().frames, { link: 147 }), 'PCAP_LINK'],
    ] as const)
      await expect(played(bytes)).rejects.toMatchObject({ code, exitCode: 2 })
  })

  it('without a packet makes captures without any', async () => {
    const { summary, inside, outside } = await played(pcap([]))
    expect([summary.frames, inside, outside]).toEqual([0, [], []])
  })

  it('in which a helper is wanted that there is none of: the same', async () => {
    await expect(played(ftpSession().pcap, { helpers: [{ module: 'gopher', ports: [] }] })).rejects.toMatchObject({
      code: 'REPLAY_HELPER',
      exitCode: 2,
    })
  })

  it('is written with its own times', async () => {
    const base = join(folder, 'times')
    writeFileSync(`${base}.pcap`, ftpSession().pcap)
    const { outsideFile } = await played(readFileSync(`${base}.pcap`))
    const capture = openCapture(outsideFile)
    expect(capture.next()).toMatchObject({ seconds: 1_700_000_000, nanoseconds: 1_000_000 })
    capture.close()
  })
})
