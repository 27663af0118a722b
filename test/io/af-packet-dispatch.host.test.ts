// Which thread gets a packet where af-packet has several shards: the shard that a program in the kernel names, or the
// dispatcher. The programs here are written by hand: a packet's number (frames.ts) modulo the number of shards.

import { readdirSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { AfPacketDriver } from '../../src/io/af-packet.ts'
import { type AfPacketOptions, type AfPacketPorts, openAfPacket } from '../../src/io/af-packet-open.ts'
import { BURST, type Driver } from '../../src/io/driver.ts'
import { close, eventfd, interfaceIndex } from '../../src/io/syscalls.ts'
import type { Namespace } from '../../src/lab/world/namespace.ts'
import { receiveCopies, waitUntil } from '../contract/driver-fixture.ts'
import { numbered, numberOf, tagged } from '../contract/frames.ts'
import { cable, FarEnd, inside, linkUp, quietNamespace } from './far-end.ts'

const RING = 16 << 20
const SHARDS = 3
const PORTS = [0, 1]
const at = new Int32Array(BURST)
const length = new Int32Array(BURST)

let near: Namespace
let far: Namespace
let opened: AfPacketPorts
let drivers: Driver[]
let ends: FarEnd[]
const wakeFds = Array.from({ length: SHARDS + 1 }, eventfd)

beforeAll(() => {
  near = quietNamespace('near')
  far = quietNamespace('far')
  for (const port of PORTS) connect(port)
})
afterAll(() => {
  near?.delete()
  far?.delete()
  for (const fd of wakeFds) close(fd)
})

function connect(port: number): void {
  cable(near, far, port)
  linkUp(near, far, port)
}

const indexOf = (name: string): number => inside(near, () => interfaceIndex(name))

function open(change: Partial<AfPacketOptions> = {}): void {
  const options = { shards: SHARDS, ringBytes: RING, qdiscBypass: [true, false], wakeFds, sharedBytes: 4096 }
  const interfaces = PORTS.map((port) => ({ name: `near${port}`, index: indexOf(`near${port}`) }))
  opened = inside(near, () => openAfPacket({ interfaces, ...options, dispatch: 'kernel', ...change }))
  drivers = opened.rings.map((rings) => new AfPacketDriver(rings))
  ends = PORTS.map((port) => new FarEnd(far, `far${port}`))
}

afterEach(() => {
  for (const driver of drivers) driver.close()
  opened.close()
  for (const end of ends) end.close()
})

/** struct sock_filter: u16 code, u8 jt, u8 jf, u32 k */
function program(...instructions: readonly (readonly [code: number, k: number])[]): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(instructions.length * 8))
  for (const [i, [code, k]] of instructions.entries()) {
    bytes.setUint16(i * 8, code, true)
    bytes.setUint32(i * 8 + 4, k, true)
  }
  return new Uint8Array(bytes.buffer)
}

const LD_W_ABS = 0x20
const ALU_ADD_K = 0x04
const ALU_MOD_K = 0x94
const RET_A = 0x16
/** A program that returns (number + shift) modulo SHARDS. The number is at the network header, where programs begin. */
const byNumber = (shift = 0): Uint8Array => program([LD_W_ABS, 0], [ALU_ADD_K, shift], [ALU_MOD_K, SHARDS], [RET_A, 0])

const sequence = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i)

function deliver(port: number, numbers: readonly number[]): void {
  for (const number of numbers) ends[port].send(numbered(number))
}

const received = (shard: number, port: number, count: number): number[] =>
  receiveCopies(drivers[shard], port, count).map(({ frame }) => numberOf(frame))

/**
 * Sends frames with these numbers; each must arrive at the shard that byNumber(shift) names, and at no other. Frames
 * that are not for this host, which go before them, must arrive at none.
 */
function expectDispatched(port: number, numbers: readonly number[], shift = 0): void {
  ends[port].send(tagged(numbered(1), 5))
  ends[port].send(Uint8Array.of(255, 255, 255, 255, 255, 255, ...numbered(2).subarray(6)))
  deliver(port, numbers)
  for (const shard of drivers.keys()) {
    const own = numbers.filter((number) => (number + shift) % SHARDS === shard)
    expect(received(shard, port, own.length)).toEqual(own)
  }
  for (const driver of drivers) expect(driver.receive(port, at, length)).toBe(0)
}

function dispatch(shift = 0): void {
  for (const port of PORTS) opened.setDispatch(port, byNumber(shift))
}

function vanish(port: number): void {
  ends[port].close()
  near.ip(`link delete near${port}`)
}

/** Deletes an interface and makes it again under another index; then the coordinator calls rebind(). */
function comeBack(port: number): void {
  connect(port)
  inside(near, () => opened.rebind(port, interfaceIndex(`near${port}`)))
  ends[port] = new FarEnd(far, `far${port}`)
}

describe('dispatch by the kernel among three shards', () => {
  beforeEach(() => open())

  it('gives each packet to the shard that the program names', () => {
    dispatch()
    expectDispatched(0, sequence(0, 60))
    expectDispatched(1, sequence(100, 60))
  })

  it('gives no shard anything before there is a program', () => {
    deliver(0, sequence(0, 30))
    dispatch()
    expectDispatched(0, sequence(100, 30))
    expect(drivers.map((driver) => driver.receiveLosses(0))).toEqual([0, 0, 0])
  })

  it('follows a new program at once, and loses nothing by the change', () => {
    dispatch()
    for (const shift of [0, 1, 2, 1]) {
      dispatch(shift)
      expectDispatched(0, sequence(10 * shift, 30), shift)
    }
  })

  it('has a program for each port', () => {
    opened.setDispatch(0, byNumber(0))
    opened.setDispatch(1, byNumber(1))
    expectDispatched(0, sequence(0, 30), 0)
    expectDispatched(1, sequence(0, 30), 1)
  })

  it.each([
    ['past the queue discipline', 0],
    ['through it', 1],
  ])('shows no shard what another sends %s', (_, port) => {
    dispatch()
    const [sender] = drivers
    new Uint8Array(sender.packetMemory).set(numbered(1), sender.scratchAt + 64)
    sender.send(port, sender.scratchAt + 64, 60)
    sender.flush()
    expect(ends[port].collect(1)).toHaveLength(1)
    expectDispatched(port, sequence(10, 6))
  })

  it('goes on as before when a link went down and up', () => {
    dispatch()
    for (const round of [1, 2, 3]) {
      near.ip('link set near0 down')
      linkUp(near, far, 0)
      expectDispatched(0, sequence(100 * round, 30))
    }
    dispatch(2)
    expectDispatched(0, sequence(0, 30), 2)
  })

  describe('over an interface that vanished and is back', () => {
    beforeEach(() => dispatch())

    it('gives each packet to the shard that the program names, in its whole ring', () => {
      deliver(0, sequence(0, 7))
      vanish(0)
      comeBack(0)
      expect(sequence(0, SHARDS).map((shard) => received(shard, 0, shard === 0 ? 3 : 2))).toEqual([
        [0, 3, 6],
        [1, 4],
        [2, 5],
      ])
      const { frames } = opened.rings[0]
      for (let sent = 0; sent < 4 * frames; sent += 60) expectDispatched(0, sequence(sent, 60))
      expectDispatched(1, sequence(0, 30))
    })

    it('follows new programs there', () => {
      vanish(0)
      comeBack(0)
      dispatch(1)
      expectDispatched(0, sequence(0, 30), 1)
    })

    it('goes on as before when that went down and up', () => {
      vanish(0)
      comeBack(0)
      near.ip('link set near0 down')
      linkUp(near, far, 0)
      expectDispatched(0, sequence(0, 30))
    })

    it('begins when the link is up, if it was down when the coordinator heard of it', () => {
      vanish(0)
      connect(0)
      near.ip('link set near0 down')
      inside(near, () => opened.rebind(0, interfaceIndex('near0')))
      linkUp(near, far, 0)
      expect(opened.settle(0)).toBe(true)
      ends[0] = new FarEnd(far, 'far0')
      expectDispatched(0, sequence(0, 30))
    })

    it('does so when the interface vanishes again before a shard has looked', () => {
      for (const _ of [1, 2, 3]) {
        vanish(0)
        comeBack(0)
      }
      expectDispatched(0, sequence(0, 30))
      vanish(0)
      comeBack(0)
      expectDispatched(0, sequence(0, 30))
    })

    it('leaves a burst as it is until it is released, and what has not been listed yet', () => {
      deliver(0, sequence(0, 6))
      const [driver] = drivers
      let listed = 0
      waitUntil(driver, () => {
        listed = driver.receive(0, at, length)
        return listed > 0
      })
      const frameAt = at[0]
      deliver(0, sequence(6, 6))
      vanish(0)
      comeBack(0)
      deliver(0, sequence(100, 8))
      expect(new Uint8Array(driver.packetMemory, frameAt, 60)).toEqual(numbered(0))
      driver.release(0)
      const all = [0, 3, 6, 9, 102, 105]
      expect(received(0, 0, all.length - listed)).toEqual(all.slice(listed))
    })

    it('waits for frames that are lent', () => {
      deliver(0, [0])
      const [driver, neighbour] = drivers
      waitUntil(driver, () => driver.receive(0, at, length) > 0)
      const frameAt = at[0]
      const token = driver.lend(frameAt)
      driver.release(0)
      vanish(0)
      comeBack(0)
      deliver(0, [3])
      expect(driver.receive(0, at, length)).toBe(0)
      expect(new Uint8Array(driver.packetMemory, frameAt, 60)).toEqual(numbered(0))
      neighbour.giveBack(token)
      expect(received(0, 0, 1)).toEqual([3])
    })

    it('is taken over by a new driver, whether the old one had looked or not', () => {
      vanish(0)
      comeBack(0)
      drivers[0] = new AfPacketDriver(opened.rings[0])
      expectDispatched(0, sequence(0, 30))
      drivers[0] = new AfPacketDriver(opened.rings[0])
      expectDispatched(0, sequence(30, 30))
    })
  })
})

describe('a shard alone', () => {
  it('needs no program', () => {
    open({ shards: 1 })
    deliver(0, sequence(0, 20))
    expect(received(0, 0, 20)).toEqual(sequence(0, 20))
  })
})

describe('dispatch by a thread', () => {
  let dispatcher: Driver

  beforeEach(() => {
    open({ dispatch: 'thread', dispatcherWakeFd: wakeFds[SHARDS] as number })
    dispatcher = new AfPacketDriver(opened.dispatcherRings!)
    drivers.push(dispatcher)
  })

  it('gives the thread all that arrives, and the shards nothing', () => {
    deliver(0, sequence(0, 30))
    expect(received(SHARDS, 0, 30)).toEqual(sequence(0, 30))
    for (const shard of drivers.slice(0, SHARDS)) {
      expect(shard.receive(0, at, length)).toBe(0)
      shard.release(0)
      shard.reclaim(new Set())
      expect(shard.receiveLosses(0)).toBe(0)
    }
  })

  it('lets a shard send what lies in the thread’s ring, and give it back', () => {
    deliver(0, [5])
    waitUntil(dispatcher, () => dispatcher.receive(0, at, length) > 0)
    const token = dispatcher.lend(at[0])
    dispatcher.release(0)
    const [shard] = drivers
    shard.send(1, at[0], length[0])
    shard.flush()
    shard.giveBack(token)
    expect(ends[1].collect(1).map(({ frame }) => numberOf(frame))).toEqual([5])
  })

  it('lets a shard sleep until its time is over', () => {
    const start = performance.now()
    drivers[0].wait(20)
    expect(performance.now() - start).toBeGreaterThanOrEqual(19)
  })

  it('goes on over an interface that vanished and is back', () => {
    vanish(0)
    comeBack(0)
    deliver(0, sequence(0, 5))
    expect(received(SHARDS, 0, 5)).toEqual(sequence(0, 5))
  })

  it('needs no more of the packet memory than one shard has where the kernel dispatches, and scratch for each', () => {
    const frames = [...opened.rings, opened.dispatcherRings!].map((rings) => rings.frames)
    expect(frames).toEqual([0, 0, 0, 252])
    expect(opened.rings[0].packetMemoryLength).toBeLessThan(2 * RING + 4 * (9 << 20))
  })
})

describe('opening and closing for several shards', () => {
  it.each(['kernel', 'thread'] as const)('leaves nothing open (%s)', (dispatch) => {
    const before = readdirSync('/proc/self/fd').length
    open({ dispatch })
    vanish(0)
    comeBack(0)
    expect(readdirSync('/proc/self/fd').length).toBeGreaterThan(before)
    opened.close()
    for (const end of ends) end.close()
    expect(readdirSync('/proc/self/fd').length).toBe(before)
    open()
  })
})
