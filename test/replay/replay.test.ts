// A replay: a capture goes in; events and captures of both sides come out.

import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { openCapture } from '../../src/io/pcap-file.ts'
import { type ReplayOptions, replay } from '../../src/replay/replay.ts'
import { fragments, frame } from '../../src/testing/builder.ts'
import { parseAddress, parsePrefix } from '../../src/wire/address.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import { segmentOf } from '../datapath/helped/dialogue.ts'
import { decode, decodeIp } from '../datapath/packets.ts'
import { pcap } from '../io/captures.ts'
import { testFolder } from '../leftovers.ts'
import { CLIENT, ftpSession, SERVER, Story } from './story.ts'

const folder = testFolder('replay')
afterAll(() => rmSync(folder, { recursive: true }))

const OUTSIDE = '203.0.113.1'
let files = 0

/** The properties of an event's line. */
interface Event {
  readonly event: string
  readonly frame: number
  readonly shard?: number
  readonly src?: string
  readonly sport?: number
  readonly dport?: number
  readonly reply?: unknown
  readonly master?: unknown
  readonly cause?: string
}

/** Replays a capture: returns its events and the frames that were sent to either side. */
async function played(capture: Buffer, more: Partial<ReplayOptions> = {}) {
  const base = join(folder, String(++files))
  writeFileSync(`${base}.pcap`, capture)
  const events: Event[] = []
  const summary = await replay({
    file: `${base}.pcap`,
    outsideAddress: parseAddress(OUTSIDE),
    translate: true,
    helpers: [{ module: 'ftp', ports: [] }],
    workers: 1,
    completeChecksums: true,
    packetEvents: false,
    outInside: `${base}-inside.pcap`,
    outOutside: `${base}-outside.pcap`,
    event: (line) => events.push(JSON.parse(line)),
    ...more,
  })
  return { summary, events, inside: framesOf(`${base}-inside.pcap`), outside: framesOf(`${base}-outside.pcap`) }
}

function framesOf(file: string): Uint8Array[] {
  const capture = openCapture(file)
  const frames: Uint8Array[] = []
  for (let each = capture.next(); each; each = capture.next()) frames.push(Uint8Array.from(each.bytes))
  capture.close()
  return frames
}

const textOf = (frames: readonly Uint8Array[]): string => frames.map((bytes) => segmentOf(bytes).text).join('')
const named = (events: readonly Event[], name: string): Event[] => events.filter(({ event }) => event === name)

const MASTER = { src: CLIENT.address, sport: CLIENT.port, dst: SERVER.address, dport: 21 }

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

describe('an answer to an echo request', () => {
  it('is carried back by its identifier, in whatever shard the request was', async () => {
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
  it('is carried back piece by piece', async () => {
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
        const pieces = inside.map(decode).filter(({ id, dst }) => id === port && dst === CLIENT.address)
        const body = Buffer.concat(pieces.map(({ body }) => body))
        expect([body.readUInt16BE(2), body.toString('latin1', 8)]).toEqual([port, payload])
      }
    }
  })
})

describe('an ICMP error from outside', () => {
  it('is carried back with what it quotes, and comes to its host as it was captured', async () => {
    const story = new Story()
    const asked = frame({
      ip: { src: CLIENT.address, dst: SERVER.address },
      udp: { sport: 1000, dport: 53 },
      payload: 'asks',
    })
    story.add(asked)
    const embedded = asked.subarray(14)
    story.add(frame({ ip: { src: '198.51.100.9', dst: CLIENT.address }, icmp: { type: 3, code: 3, embedded } }))
    const { summary, inside } = await played(story.pcap)
    expect(summary).toMatchObject({ toInside: 1, toOutside: 1, drops: new Map() })
    expect(decode(inside[0]!)).toMatchObject({ src: '198.51.100.9', dst: CLIENT.address, type: 3, code: 3 })
    const quoted = decodeIp(decode(inside[0]!).quoted)
    expect(quoted).toMatchObject({ src: CLIENT.address, sport: 1000, dst: SERVER.address, dport: 53 })
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
    const quoted = ftpSession().frames[3]!.bytes.subarray(14, 54)
    const remote = { src: '192.0.2.9', dst: CLIENT.address }
    const whole = [
      ...ftpSession().frames.map(({ bytes }) => bytes),
      frame({ ip: remote, icmp: { type: 3, code: 1, embedded: quoted } }),
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
    await played(readFileSync(`${base}.pcap`))
    const capture = openCapture(join(folder, `${files}-outside.pcap`))
    expect(capture.next()).toMatchObject({ seconds: 1_700_000_000, nanoseconds: 1_000_000 })
    capture.close()
  })
})
