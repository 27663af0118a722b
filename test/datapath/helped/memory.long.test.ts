// What helped connections take of a shard's own memory: in each of their phases, and when each of their limits is
// filled. What is counted is held against what the process has in use, and what the start announces for all of it
// (helped/memory-bound.ts) against both. All of it is given back when the connections have ended.

import { describe, expect, it } from 'vitest'
import { HELPER_CUT_OFFS, HELPER_RESETS } from '../../../src/counters/counters.ts'
import {
  FAIR_SHARE,
  MOST_EARLY,
  MOST_GAPS,
  MOST_HELPED,
  MOST_KEPT,
  MOST_KEPT_OF_HOST,
  MOST_PIECES,
  MOST_PIECES_OF_HOST,
} from '../../../src/datapath/helped/limits.ts'
import { GAP_BYTES, HELPED_BYTES, helpedBytes, PIECE_BYTES } from '../../../src/datapath/helped/memory-bound.ts'
import { BUILTIN } from '../../../src/helpers/builtin.ts'
import type { Helper } from '../../../src/helpers/helper.ts'
import type { Gateway } from '../gateway.ts'
import { quotas } from '../host-quotas.ts'
import { HOST, LAN, SERVER, WAN } from '../network.ts'
import { udp } from '../packets.ts'
import { Crowd, LARGEST_WINDOWS, memoryInUse, OF_EACH_HOST, since } from './crowd.ts'

/** What a connection may seem to take that takes nothing: others of V8's doings. */
const NOISE = 100
/** In all, beside what is measured: code is compiled meanwhile, and collected when V8 wants. */
const NOISE_ALL = 4 << 20
/** Longer than a connection lives that has sent nothing more. */
const FORGOTTEN = 8000
const COUNT = 4000
/** So many of them have all that a shard has. */
const HOSTS = 4

/** Reads all, holds what begins with `?`, has a state if it is to have one. */
const holding = (state?: () => unknown): Helper => ({
  name: 'holding',
  tuple: { proto: 'tcp', dstPort: 21 },
  ...(state && { state }),
  help(ctx) {
    const at = ctx.text.indexOf('?')
    if (at >= 0) ctx.hold(at)
  },
})

const failing: Helper = {
  name: 'failing',
  tuple: { proto: 'tcp', dstPort: 21 },
  help() {
    throw new Error('as the test wants it')
  },
}

const cutOffs = (gateway: Gateway, why: (typeof HELPER_CUT_OFFS)[number]): number =>
  gateway.counter('helperCutOffs', HELPER_CUT_OFFS.indexOf(why))
const resets = (gateway: Gateway, why: (typeof HELPER_RESETS)[number]): number =>
  gateway.counter('helperResets', HELPER_RESETS.indexOf(why))

/** What the shard's modules count, of the gateway that was started last. */
async function counts() {
  const { bytesKept, poolBytes } = await import('../../../src/datapath/helped/byte-pool.ts')
  const { piecesListed } = await import('../../../src/datapath/helped/host-share.ts')
  const { gapsKept } = await import('../../../src/datapath/helped/receiver-next.ts')
  return { bytesKept, poolBytes, piecesListed, gapsKept }
}

const NOTHING = { helped: 0, bytes: 0, pieces: 0, gaps: 0 }
async function kept(gateway: Gateway) {
  const { bytesKept, piecesListed, gapsKept } = await counts()
  return { helped: gateway.counter('helped'), bytes: bytesKept(), pieces: piecesListed(), gaps: gapsKept() }
}

/** Bytes of each connection that `begin` makes, once all code has run that there is. */
function bytesOfEach(begin: (first: number, count: number) => void): number {
  begin(0, COUNT)
  begin(COUNT, COUNT)
  const before = memoryInUse()
  begin(2 * COUNT, COUNT)
  const { heap, arrays } = since(before)
  return (heap + arrays) / COUNT
}

describe('a connection takes nothing beside its row', () => {
  it('as long as nobody but its client has opened it', async () => {
    const crowd = await Crowd.begin({ connections: 32768 })
    await crowd.gateway.help(BUILTIN.ftp!())
    const each = bytesOfEach((...some) => crowd.syns(...some))
    console.log(`a SYN at a helped port: ${Math.round(each)} bytes`)
    expect(each).toBeLessThan(NOISE)
    expect(await kept(crowd.gateway)).toEqual(NOTHING)
  })

  it('as long as neither end has sent data', async () => {
    const crowd = await Crowd.begin({ connections: 32768 })
    await crowd.gateway.help(BUILTIN.ftp!())
    const each = bytesOfEach((...some) => crowd.open(...some))
    console.log(`an established connection without data: ${Math.round(each)} bytes`)
    expect(each).toBeLessThan(NOISE)
    expect(await kept(crowd.gateway)).toEqual(NOTHING)
  })

  it('when it is watched from its beginning', async () => {
    const crowd = await Crowd.begin({ connections: 32768 })
    const { noteUnavailable } = await import('../../../src/helpers/registry.shard.ts')
    noteUnavailable([{ id: 9, bindings: [{ tuple: { proto: 'tcp', dstPort: 21 } }] }])
    const each = bytesOfEach((...some) => {
      crowd.open(...some)
      crowd.each(...some, LAN, (i) => crowd.client(i, 0, 'NOOP\r\n'))
    })
    expect(each).toBeLessThan(NOISE)
  })

  it('when it is one of UDP whose helper has no state', async () => {
    const crowd = await Crowd.begin({ connections: 32768 })
    await crowd.gateway.help({ ...holding(), tuple: { proto: 'udp', dstPort: 69 } })
    const datagram = (i: number) => udp(`${HOST}:${1024 + i}`, `${SERVER}:69`, { payload: 'a' })
    expect(bytesOfEach((...some) => crowd.each(...some, LAN, datagram))).toBeLessThan(NOISE)
    expect(await kept(crowd.gateway)).toEqual(NOTHING)
  })
})

it('what is kept of one of UDP is forgotten when its helper is done, and when the connection is over', async () => {
  const crowd = await Crowd.begin({ connections: 2048 })
  const { gateway } = crowd
  await gateway.help({
    name: 'asking',
    tuple: { proto: 'udp', dstPort: 69 },
    state: () => ({ asked: 0 }),
    help(ctx) {
      if (ctx.text === 'done') ctx.done()
    },
  })
  const say = (payload: string) => (i: number) => udp(`${HOST}:${1024 + i}`, `${SERVER}:69`, { payload })
  crowd.each(0, 300, LAN, say('a'))
  expect(await kept(gateway)).toEqual({ ...NOTHING, helped: 300 })
  crowd.each(0, 100, LAN, say('done'))
  crowd.each(0, 100, LAN, say('a'))
  expect(await kept(gateway)).toEqual({ ...NOTHING, helped: 200 })
  gateway.pass(FORGOTTEN)
  expect(await kept(gateway)).toEqual(NOTHING)
  gateway.check()
})

describe('the limits of a shard', () => {
  it('MOST_HELPED: one more is not read, and what its helper was to rewrite does not go out', async () => {
    const crowd = await Crowd.begin({ connections: 32768 })
    const { gateway } = crowd
    await gateway.help(holding())
    crowd.open(0, MOST_HELPED + 100)
    const before = memoryInUse()
    // Each stream of a connection keeps what it may keep at all: accepted bytes, held ones, and such behind a gap.
    const all = [0, MOST_HELPED] as const
    crowd.each(...all, LAN, (i) => crowd.client(i, 0, 'a?'))
    crowd.each(...all, WAN, (i) => crowd.server(i, 0, 'a?'))
    crowd.each(...all, LAN, (i) => crowd.client(i, 4, 'a'))
    crowd.each(...all, WAN, (i) => crowd.server(i, 4, 'a'))
    const { poolBytes } = await counts()
    const { helped, pieces, bytes } = await kept(gateway)
    expect(helped).toBe(MOST_HELPED)
    expect(cutOffs(gateway, 'too-many')).toBe(0)
    const used = since(before)
    const each = Math.round((used.heap - pieces * PIECE_BYTES) / MOST_HELPED)
    console.log(`a helped connection with all that it may have: ${each} bytes, with ${pieces} pieces of all`)
    expect(each).toBeLessThan(HELPED_BYTES)
    expect(used.arrays).toBeLessThan(poolBytes() + NOISE_ALL)
    expect(bytes).toBeLessThanOrEqual(poolBytes())
    expect(used.heap + used.arrays).toBeLessThan(helpedBytes(32768))

    crowd.each(MOST_HELPED, 100, LAN, (i) => crowd.client(i, 0, 'a?'))
    expect(cutOffs(gateway, 'too-many')).toBe(100)
    expect(resets(gateway, 'too-many')).toBe(0)
    crowd.each(MOST_HELPED, 100, LAN, (i) => crowd.client(i, 2, `PORT ${HOST.replaceAll('.', ',')},1,2\r\n`))
    expect(resets(gateway, 'too-many')).toBe(100)
    expect((await kept(gateway)).helped).toBe(MOST_HELPED)

    gateway.pass(FORGOTTEN)
    crowd.discard()
    expect(await kept(gateway)).toEqual(NOTHING)
    expect(since(before).heap).toBeLessThan(NOISE_ALL)
    expect(since(before).arrays).toBeLessThan(NOISE_ALL)
    gateway.check()
  })

  it('of connections of one host, which `limits` says: one more is not read, and another host has room', async () => {
    const limits = quotas({ 'helped-connections': OF_EACH_HOST })
    const crowd = await Crowd.begin({ connections: 8192, limits })
    const { gateway } = crowd
    await gateway.help(holding())
    crowd.open(0, OF_EACH_HOST + 1)
    crowd.each(0, OF_EACH_HOST + 1, LAN, (i) => crowd.client(i, 0, 'a?'))
    expect(cutOffs(gateway, 'host-limit')).toBe(0)
    const more = crowd.at(80)
    await gateway.help({ ...holding(), name: 'another', tuple: { proto: 'tcp', dstPort: 80 } })
    more.open(0, 1)
    more.each(0, 1, LAN, (i) => more.client(i, 0, 'a?'))
    expect(cutOffs(gateway, 'host-limit')).toBe(1)
    gateway.pass(FORGOTTEN)
    expect(await kept(gateway)).toEqual(NOTHING)
    more.open(1, 1)
    more.each(1, 1, LAN, (i) => more.client(i, 0, 'a?'))
    expect(await kept(gateway)).toMatchObject({ helped: 1 })
    gateway.check()
  })

  it('MOST_EARLY and MOST_PIECES: pieces of a byte behind gaps count as what they take', async () => {
    const crowd = await Crowd.begin({ connections: 32768 })
    const { gateway } = crowd
    await gateway.help(holding())
    // Of each of four hosts as many connections as may have all their pieces, and one more; of another host one.
    const full = MOST_PIECES / MOST_EARLY / HOSTS
    const first = (host: number): number => host * OF_EACH_HOST
    for (let host = 0; host <= HOSTS; host++) {
      const count = host === HOSTS ? 1 : full + 1
      crowd.open(first(host), count)
      crowd.each(first(host), count, LAN, (i) => crowd.client(i, 0, 'a'))
    }
    const before = memoryInUse()
    for (let host = 0; host < HOSTS; host++) {
      for (let piece = 0; piece < MOST_EARLY; piece++)
        crowd.each(first(host), full, LAN, (i) => crowd.client(i, 3 + 2 * piece, 'x'))
      expect(cutOffs(gateway, 'no-memory')).toBe(host)
      expect((await kept(gateway)).pieces).toBe((host + 1) * MOST_PIECES_OF_HOST)
      // There is room, but for others.
      crowd.each(first(host) + full, 1, LAN, (i) => crowd.client(i, 3, 'x'))
      expect(cutOffs(gateway, 'no-memory')).toBe(host + 1)
    }
    const used = since(before)
    const { pieces, bytes } = await kept(gateway)
    expect(pieces).toBe(MOST_PIECES)
    const each = (used.heap + used.arrays) / pieces
    console.log(
      `a byte behind a gap: ${Math.round(each)} bytes in use, ${Math.round(bytes / pieces + PIECE_BYTES)} counted`,
    )
    // The headers that they will go on after belong to their connection.
    expect(used.heap).toBeLessThan(MOST_PIECES * PIECE_BYTES + HOSTS * full * HELPED_BYTES)
    crowd.each(first(HOSTS), 1, LAN, (i) => crowd.client(i, 3, 'x'))
    expect(cutOffs(gateway, 'no-memory')).toBe(HOSTS + 1)
    gateway.pass(FORGOTTEN)
    expect(await kept(gateway)).toEqual(NOTHING)
    gateway.check()
  })

  it('MOST_KEPT: bytes without acknowledgement count by the blocks that they lie in', async () => {
    const crowd = await Crowd.begin({ connections: 32768 })
    const { gateway } = crowd
    await gateway.help(holding())
    const share = new Uint8Array(FAIR_SHARE - 256).fill(97)
    const say = (first: number, count: number, from = 0) =>
      crowd.each(first, count, LAN, (i) => crowd.client(i, from, share, { gso: { size: 1400 } }))
    const ofHost = MOST_KEPT_OF_HOST / FAIR_SHARE
    const before = memoryInUse()
    for (let host = 0; host <= HOSTS; host++) crowd.open(host * OF_EACH_HOST, ofHost + 50)
    say(0, ofHost)
    expect(cutOffs(gateway, 'no-memory')).toBe(0)
    say(ofHost, 50)
    // What is left of the host's part, since a share is a block less.
    const ownLimit = cutOffs(gateway, 'no-memory')
    expect(ownLimit).toBeGreaterThan(30)
    expect((await kept(gateway)).bytes).toBeLessThanOrEqual(MOST_KEPT_OF_HOST + 65536)
    say(OF_EACH_HOST, ofHost)
    expect(cutOffs(gateway, 'no-memory')).toBe(ownLimit)
    // From here on more than a share is too much.
    say(2 * OF_EACH_HOST, 20)
    say(2 * OF_EACH_HOST, 20, share.length)
    expect(cutOffs(gateway, 'no-memory')).toBeGreaterThan(ownLimit + 10)
    for (let host = 2; host <= HOSTS; host++) say(host * OF_EACH_HOST + 20, ofHost)
    const { poolBytes } = await counts()
    const used = since(before)
    const { bytes, helped } = await kept(gateway)
    console.log(`${bytes >> 20} MB kept, ${Math.round(used.arrays / 2 ** 20)} MB in use, of ${helped} streams`)
    expect(bytes).toBeLessThanOrEqual(2 * MOST_KEPT + 65536)
    expect(bytes).toBeGreaterThan(1.9 * MOST_KEPT)
    expect(used.arrays).toBeLessThan(poolBytes() + NOISE_ALL)
    expect(used.heap + used.arrays).toBeLessThan(helpedBytes(32768))
    gateway.pass(FORGOTTEN)
    crowd.discard()
    expect(await kept(gateway)).toEqual(NOTHING)
    expect(since(before).arrays).toBeLessThan(NOISE_ALL)
    gateway.check()
  })

  it('MOST_KEPT_OF_ONE: also of a stream that its helper has left, as long as an edit waits', async () => {
    const crowd = await Crowd.begin({ connections: 1024 })
    const { gateway } = crowd
    await gateway.help({
      ...holding(),
      help(ctx) {
        if (ctx.text.startsWith('edit')) ctx.mangle(0, 4, 'edited')
        if (ctx.text.startsWith('stop')) throw new Error('as the test wants it')
      },
    })
    const piece = new Uint8Array(16384).fill(97)
    crowd.open(0, 1, LARGEST_WINDOWS)
    crowd.each(0, 1, WAN, (i) => crowd.server(i, 0, '', { flags: 'A' }))
    crowd.each(0, 1, LAN, (i) => crowd.client(i, 0, 'edit'))
    crowd.each(0, 1, LAN, (i) => crowd.client(i, 4, 'stop'))
    for (let at = 0; at < 4 << 20; at += piece.length)
      crowd.each(0, 1, LAN, (i) => crowd.client(i, 8 + at, piece, { gso: { size: 1400 } }))
    const { bytes } = await kept(gateway)
    expect(bytes).toBeGreaterThan(900 << 10)
    expect(bytes).toBeLessThanOrEqual(1 << 20)
    expect(gateway.drops()['helper-window']).toBeGreaterThan(100)
    gateway.check()
  })

  it('of a slow sender: what has gone on and is read again, and when its bytes have come', async () => {
    const crowd = await Crowd.begin({ connections: 1024 })
    const { gateway } = crowd
    await gateway.help(holding())
    const senders = 8
    crowd.open(0, senders)
    crowd.each(0, senders, LAN, (i) => crowd.client(i, 0, '?'))
    const before = memoryInUse()
    for (let at = 1; at < 3000; at += 4) {
      gateway.jump(0.004)
      crowd.each(0, senders, LAN, (i) => crowd.client(i, at, 'xxxx'))
    }
    const used = since(before)
    const { pieces, bytes } = await kept(gateway)
    // Of each 3000 bytes to be read, and two thirds of them once more for its receiver, who says nothing.
    expect(bytes).toBeGreaterThan(senders * 4900)
    expect(pieces).toBeLessThan(senders * 64)
    expect(used.heap).toBeLessThan(pieces * PIECE_BYTES + senders * HELPED_BYTES + NOISE_ALL)
    expect(used.arrays).toBeLessThan(bytes + NOISE_ALL)
  })

  it('MOST_GAPS: what watched connections were sent beyond a gap', async () => {
    const crowd = await Crowd.begin({ connections: 4096 })
    const { gateway } = crowd
    await gateway.help(failing)
    const count = MOST_GAPS + 200
    crowd.open(0, count)
    crowd.each(0, count, LAN, (i) => crowd.client(i, 0, 'a'))
    expect(await kept(gateway)).toEqual(NOTHING)
    const before = memoryInUse()
    for (let piece = 0; piece < 20; piece++) crowd.each(0, count, WAN, (i) => crowd.server(i, 10 + 10 * piece, 'x'))
    const { heap } = since(before)
    expect((await kept(gateway)).gaps).toBe(MOST_GAPS)
    console.log(`a gap that is remembered: ${Math.round(heap / MOST_GAPS)} bytes`)
    expect(heap).toBeLessThan(MOST_GAPS * GAP_BYTES + NOISE_ALL)
    gateway.pass(FORGOTTEN)
    expect(await kept(gateway)).toEqual(NOTHING)
    gateway.check()
  })
})
