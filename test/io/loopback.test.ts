import { describe, expect, it } from 'vitest'
import { BURST } from '../../src/io/driver.ts'
import { LoopbackDriver, packetMemoryBytes } from '../../src/io/loopback.ts'
import { sharedMemory } from '../../src/memory/region.ts'
import { describeDriver } from '../contract/driver.ts'
import { TOO_LONG } from '../contract/driver-fixture.ts'

const at = new Int32Array(BURST)
const length = new Int32Array(BURST)
const frame = (...bytes: number[]): Uint8Array => Uint8Array.from({ length: 60 }, (_, i) => bytes[i] ?? 0)

describeDriver('loopback', () => {
  const shape = { slots: 128, scratchBytes: 1 << 20, shards: 2, sharedBytes: 4096 }
  const packetMemory = sharedMemory(packetMemoryBytes(shape))
  const driver = new LoopbackDriver({ ...shape, packetMemory, refuse: (_port, bytes) => bytes.length === TOO_LONG })
  return {
    driver,
    neighbour: new LoopbackDriver({ ...shape, packetMemory, shard: 1 }),
    successor: () => new LoopbackDriver({ ...shape, packetMemory }),
    slots: shape.slots,
    wake: { by: 'loopback', options: { ...shape, packetMemory } },
    deliver: (port, bytes, header) => void driver.inject(port, bytes, header),
    collect: (port) =>
      driver.takeSent(port, true).map((bytes) => ({ header: bytes.subarray(0, 10), frame: bytes.subarray(10) })),
    close: () => driver.close(),
  }
})

describe('loopback driver', () => {
  it('carries an injected frame and its header to takeSent()', () => {
    const driver = new LoopbackDriver()
    const header = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    driver.inject(0, frame(0xaa, 0xbb), header)
    expect(driver.receive(0, at, length)).toBe(1)
    driver.send(1, at[0], length[0])
    driver.flush()
    driver.release(0)
    expect(driver.sent(1)).toEqual([frame(0xaa, 0xbb)])
    expect(driver.takeSent(1, true)).toEqual([Uint8Array.of(...header, ...frame(0xaa, 0xbb))])
    expect(driver.takeSent(1)).toEqual([])
  })

  it('loses frames that find no free slot, until the shard releases', () => {
    const driver = new LoopbackDriver({ slots: 4 })
    const taken = Array.from({ length: 6 }, (_, i) => driver.inject(0, frame(i)))
    expect(taken).toEqual([true, true, true, true, false, false])
    expect(driver.receiveLosses(0)).toBe(2)
    expect(driver.receive(0, at, length)).toBe(4)
    expect(driver.inject(0, frame(7))).toBe(false)
    driver.release(0)
    expect(driver.pending(0)).toBe(0)
    expect(driver.inject(0, frame(8))).toBe(true)
  })

  it('cuts a frame that is longer than a slot', () => {
    const driver = new LoopbackDriver({ slotBytes: 128 })
    driver.inject(0, new Uint8Array(500).fill(7))
    driver.receive(0, at, length)
    expect(length[0]).toBe(128 - 18)
  })

  it('puts the IPv4 header of every frame on four bytes', () => {
    const driver = new LoopbackDriver({ slotBytes: 192 })
    for (let i = 0; i < 5; i++) driver.inject(1, frame(i))
    const count = driver.receive(1, at, length)
    expect(Array.from(at.subarray(0, count), (offset) => (offset + 14) % 4)).toEqual([0, 0, 0, 0, 0])
  })

  it('refuses to send what the hook refuses, and sends the rest', () => {
    const driver = new LoopbackDriver({ refuse: (_port, bytes) => bytes[0] === 2 })
    for (const first of [1, 2, 3]) driver.inject(0, frame(first))
    const count = driver.receive(0, at, length)
    for (let i = 0; i < count; i++) driver.send(1, at[i], length[i])
    driver.flush()
    expect(driver.takeSent(1).map((bytes) => bytes[0])).toEqual([1, 3])
    expect(driver.sendFailures(1)).toBe(1)
    expect(driver.sentFrames(1)).toBe(2)
  })

  it('counts and forgets what is sent if asked to', () => {
    const driver = new LoopbackDriver({ keepSent: false })
    driver.inject(0, frame(1))
    driver.receive(0, at, length)
    driver.send(1, at[0], length[0])
    driver.flush()
    expect(driver.sent(1)).toEqual([])
    expect(driver.sentFrames(1)).toBe(1)
  })

  it('lies in the memory it is given, where a second driver may inject', () => {
    const packetMemory = sharedMemory(packetMemoryBytes({ slots: 8 }))
    const shard = new LoopbackDriver({ slots: 8, packetMemory })
    const far = new LoopbackDriver({ slots: 8, packetMemory })
    far.inject(1, frame(9))
    expect(shard.receive(1, at, length)).toBe(1)
    expect(new DataView(packetMemory).getUint8(at[0])).toBe(9)
  })

  describe('of several shards', () => {
    const options = { shards: 3, sharedBytes: 4096, slots: 4, slotBytes: 192, scratchBytes: 100 }
    const packetMemory = sharedMemory(packetMemoryBytes(options))
    const drivers = [0, 1, 2].map((shard) => new LoopbackDriver({ ...options, shard, packetMemory }))

    it('keeps the frames of each apart', () => {
      for (const [shard, driver] of drivers.entries()) driver.inject(1, frame(shard))
      for (const [shard, driver] of drivers.entries()) {
        expect(driver.receive(1, at, length)).toBe(1)
        expect(new DataView(packetMemory).getUint8(at[0])).toBe(shard)
        driver.release(1)
      }
    })

    it('shares one range behind the parts of all', () => {
      const own = drivers.map(({ scratchAt, scratchLength }) => scratchAt + scratchLength)
      for (const { sharedAt, sharedLength } of drivers) {
        expect([sharedAt, sharedLength]).toEqual([packetMemoryBytes(options) - 4096, 4096])
        expect(sharedAt).toBeGreaterThanOrEqual(Math.max(...own))
      }
    })

    it('releases what a dead driver had listed, and goes on behind it', () => {
      for (const first of [1, 2]) drivers[0].inject(0, frame(first))
      drivers[0].receive(0, at, length)
      drivers[0].inject(0, frame(3))
      const successor = new LoopbackDriver({ ...options, packetMemory })
      expect(successor.receive(0, at, length)).toBe(1)
      expect(new DataView(packetMemory).getUint8(at[0])).toBe(3)
      successor.release(0)
      expect(successor.pending(0)).toBe(0)
    })
  })

  it.each([
    ['a shard beyond the last', () => new LoopbackDriver({ shard: 2, shards: 2 }), /0 to 1/],
    ['slots that are no power of two', () => new LoopbackDriver({ slots: 6 }), /powers of two/],
    ['slots that are not whole lines', () => new LoopbackDriver({ slotBytes: 100 }), /multiples of 64/],
    [
      'packet memory that is too small',
      () => new LoopbackDriver({ packetMemory: new SharedArrayBuffer(64) }),
      /needed/,
    ],
    ['a port that is none', () => new LoopbackDriver().inject(2, frame()), /0 to 1/],
    ['a short virtio-net header', () => new LoopbackDriver().inject(0, frame(), frame()), /allowed: 10/],
  ])('refuses %s', (_, wrong, message) => {
    expect(wrong).toThrow(message)
  })
})
