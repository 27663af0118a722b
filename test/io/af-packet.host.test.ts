// The af-packet driver between veth pairs: its two ports are in one namespace, each far end in another.

import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { AfPacketDriver } from '../../src/io/af-packet.ts'
import type { AfPacketRings } from '../../src/io/af-packet-layout.ts'
import { type AfPacketOptions, type AfPacketPorts, openAfPacket } from '../../src/io/af-packet-open.ts'
import { BURST } from '../../src/io/driver.ts'
import { addressOf, close, eventfd, interfaceIndex, SOL_SOCKET, setsockopt } from '../../src/io/syscalls.ts'
import type { Namespace } from '../../src/lab/world/namespace.ts'
import { describeDriver } from '../contract/driver.ts'
import { type DriverFixture, receiveCopies, waitUntil } from '../contract/driver-fixture.ts'
import { numbered, numberOf, tagged } from '../contract/frames.ts'
import { cable, FarEnd, inside, linkUp, quietNamespace } from './far-end.ts'

const RING = 16 << 20
const SO_ATTACH_FILTER = 26
let near: Namespace
let far: Namespace

beforeAll(() => {
  near = quietNamespace('near')
  far = quietNamespace('far')
  for (const port of [0, 1]) cable(near, far, port)
})
afterAll(() => {
  near?.delete()
  far?.delete()
})

interface Fixture extends DriverFixture {
  readonly driver: AfPacketDriver
  readonly opened: AfPacketPorts
  readonly rings: AfPacketRings
  readonly ends: FarEnd[]
}

const interfaces = (...names: string[]) => names.map((name) => ({ name, index: interfaceIndex(name) }))

/** A program that gives all packets to shard 0; shard 1 is the neighbour. */
const ALL_TO_FIRST = Uint8Array.of(6, 0, 0, 0, 0, 0, 0, 0)

function openFixture(shards = 1): Fixture {
  const wakeFd = eventfd()
  const opened = inside(near, () =>
    openAfPacket({
      interfaces: interfaces('near0', 'near1'),
      shards,
      ringBytes: RING,
      qdiscBypass: [true, false],
      wakeFds: Array.from({ length: shards }, () => wakeFd),
      sharedBytes: 4096,
      dispatch: 'kernel',
    }),
  )
  for (const port of [0, 1]) opened.setDispatch(port, ALL_TO_FIRST)
  const rings = opened.rings[0]
  const driver = new AfPacketDriver(rings)
  const ends = [new FarEnd(far, 'far0'), new FarEnd(far, 'far1')]
  return {
    driver,
    neighbour: new AfPacketDriver(opened.rings[shards - 1]),
    successor: () => new AfPacketDriver(rings),
    opened,
    rings,
    ends,
    slots: rings.frames,
    wake: { by: 'eventfd', fd: wakeFd },
    deliver: (port, frame, header) => ends[port].send(frame, header),
    collect: (port, count) => ends[port].collect(count),
    close() {
      driver.close()
      opened.close()
      close(wakeFd)
      for (const end of ends) end.close()
    },
  }
}

/** Attaches a filter of one instruction, `ret #bytes`: socket(7), SO_ATTACH_FILTER with a struct sock_fprog. */
function acceptAtMost(fd: number, bytes: number): void {
  const RET_K = 6
  const program = new DataView(new SharedArrayBuffer(8))
  program.setUint16(0, RET_K, true)
  program.setUint32(4, bytes, true)
  const fprog = new DataView(new ArrayBuffer(16))
  fprog.setUint16(0, 1, true)
  fprog.setBigUint64(8, BigInt(addressOf(program)), true)
  setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, new Uint8Array(fprog.buffer))
}

describeDriver('af-packet', () => openFixture(2))

describe('af-packet', () => {
  const at = new Int32Array(BURST)
  const length = new Int32Array(BURST)
  let fixture: Fixture
  let driver: AfPacketDriver

  beforeEach(() => {
    fixture = openFixture()
    driver = fixture.driver
  })
  afterEach(() => fixture.close())

  const received = (port: number, count: number): number[] =>
    receiveCopies(driver, port, count).map(({ frame }) => numberOf(frame))

  function transmit(port: number, number: number): void {
    new Uint8Array(driver.packetMemory).set(numbered(number), driver.scratchAt + 64)
    driver.send(port, driver.scratchAt + 64, 60)
    driver.flush()
  }

  describe('takes what is IPv4 for this host', () => {
    const changed = (frame: Uint8Array, at: number, ...bytes: number[]): Uint8Array => {
      frame.set(bytes, at)
      return frame
    }
    const OTHERS = [
      ['of a VLAN that no interface has', (n: number) => tagged(numbered(n), 5)],
      ['to another MAC address', (n: number) => changed(numbered(n), 5, 9)],
      ['to all', (n: number) => changed(numbered(n), 0, 255, 255, 255, 255, 255, 255)],
      ['to a group', (n: number) => changed(numbered(n), 0, 1, 0, 94, 0, 0, 1)],
      ['of IPv6', (n: number) => changed(numbered(n), 12, 0x86, 0xdd)],
    ] as const

    for (const [what, make] of OTHERS)
      it(`not a frame ${what}, and is not stalled by more of them than the ring holds`, () => {
        near.ip('link set near0 promisc on')
        for (let i = 0; i < 2 * fixture.slots; i++) fixture.deliver(0, make(i))
        fixture.deliver(0, numbered(9))
        expect(received(0, 1)).toEqual([9])
        expect(driver.receiveLosses(0)).toBe(0)
        near.ip('link set near0 promisc off')
      })

    it('and frames of VLAN 0, which is no VLAN but a priority, with the tag taken off', () => {
      for (const frame of [numbered(1), tagged(numbered(2), 0), numbered(3)]) fixture.deliver(0, frame)
      expect(receiveCopies(driver, 0, 3).map(({ frame }) => frame)).toEqual([numbered(1), numbered(2), numbered(3)])
    })

    it.each([
      ['past the queue discipline', 0],
      ['through it', 1],
    ])('does not see what it sends %s', (_, port) => {
      transmit(port, 1)
      expect(fixture.collect(port, 1)).toHaveLength(1)
      fixture.deliver(port, numbered(2))
      expect(received(port, 1)).toEqual([2])
    })
  })

  it('reports a frame that arrives cut short with the length that arrived', () => {
    acceptAtMost(fixture.rings.ports[0].receiveFd, 100)
    fixture.deliver(0, numbered(1, 1000))
    expect(receiveCopies(driver, 0, 1).map(({ frame }) => frame)).toEqual([numbered(1, 1000).subarray(0, 100)])
  })

  it('goes on in the same place when a new driver gets the rings, and releases the burst of the old one', () => {
    const almostALap = fixture.slots - 3
    for (let i = 0; i < almostALap; i++) {
      fixture.deliver(0, numbered(i))
      expect(received(0, 1)).toEqual([i])
    }
    fixture.deliver(0, numbered(1000))
    waitUntil(driver, () => driver.receive(0, at, length) === 1)
    for (let i = 1001; i < 1010; i++) fixture.deliver(0, numbered(i))
    driver = new AfPacketDriver(fixture.rings)
    expect(received(0, 9)).toEqual([1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009])
  })

  it('goes on counting when a new driver gets the rings', () => {
    near.ip('link set near0 down')
    transmit(0, 1)
    linkUp(near, far, 0)
    driver = new AfPacketDriver(fixture.rings)
    expect(driver.sendFailures(0)).toBe(1)
  })

  describe('a queue discipline that lets little through', () => {
    const SLOW = ['root', 'tbf', 'rate', '8kbit', 'burst', '1600', 'limit', '3000']
    const COUNT = 200
    beforeEach(() => {
      for (const name of ['near0', 'near1']) near.exec('tc', 'qdisc', 'replace', 'dev', name, ...SLOW)
    })
    afterEach(() => {
      for (const name of ['near0', 'near1']) near.exec('tc', 'qdisc', 'delete', 'dev', name, 'root')
    })

    it('is bypassed if the port was opened so', () => {
      for (let i = 0; i < COUNT; i++) transmit(0, i)
      expect(fixture.collect(0, COUNT)).toHaveLength(COUNT)
      expect(driver.sendFailures(0)).toBe(0)
    })

    it('is used otherwise: frames that it has no room for are dropped after a few tries, and counted', () => {
      for (let i = 0; i < COUNT; i++) transmit(1, i)
      expect(driver.sendFailures(1)).toBeGreaterThan(COUNT / 2)
      expect(driver.sendFailures(1)).toBeLessThan(COUNT)
    })
  })

  describe('a link that comes and goes', () => {
    const sleepsIts20ms = (): boolean => {
      const start = performance.now()
      driver.wait(20)
      return performance.now() - start >= 19
    }

    it('counts what is sent while it is down, sleeps, and carries again when it is up', () => {
      fixture.deliver(0, numbered(1))
      expect(received(0, 1)).toEqual([1])
      near.ip('link set near0 down')
      transmit(0, 2)
      expect(driver.sendFailures(0)).toBe(1)
      driver.wait(20)
      expect(sleepsIts20ms()).toBe(true)
      linkUp(near, far, 0)
      fixture.deliver(0, numbered(3))
      expect(received(0, 1)).toEqual([3])
      transmit(0, 4)
      expect(fixture.collect(0, 1).map(({ frame }) => numberOf(frame))).toEqual([4])
    })

    it('carries again, in the same ring, once bound to the interface that took the place of a deleted one', () => {
      fixture.deliver(0, numbered(1))
      near.ip('link delete near0')
      transmit(0, 2)
      expect(driver.sendFailures(0)).toBe(1)
      expect(received(0, 1)).toEqual([1])
      driver.wait(20)
      expect(sleepsIts20ms()).toBe(true)
      fixture.deliver(1, numbered(3))
      expect(received(1, 1)).toEqual([3])

      cable(near, far, 0)
      // The link may still be down when the coordinator hears of the interface.
      near.ip('link set near0 down')
      inside(near, () => fixture.opened.rebind(0, interfaceIndex('near0')))
      linkUp(near, far, 0)
      fixture.ends[0].close()
      fixture.ends[0] = new FarEnd(far, 'far0')
      for (let i = 10; i < 10 + fixture.slots; i++) {
        fixture.deliver(0, numbered(i))
        expect(received(0, 1)).toEqual([i])
      }
      transmit(0, 4)
      expect(fixture.collect(0, 1).map(({ frame }) => numberOf(frame))).toEqual([4])
    })
  })
})

describe('opening af-packet', () => {
  const wakeFd = eventfd()
  afterAll(() => close(wakeFd))

  const openFiles = (): number => readdirSync('/proc/self/fd').length
  const options = { shards: 1, ringBytes: RING, qdiscBypass: [false], wakeFds: [wakeFd], dispatch: 'kernel' } as const
  const attempt = (change: Partial<AfPacketOptions>) => () =>
    inside(near, () => openAfPacket({ interfaces: interfaces('near0'), ...options, ...change }).close())

  it.each([
    ['an interface that is missing', { interfaces: [{ name: 'wan7', index: 0 }] }, 'interface-missing', /wan7/],
    ['one that vanished meanwhile', { interfaces: [{ name: 'wan8', index: 9999 }] }, 'interface-missing', /wan8/],
    ['a link without an Ethernet header', { interfaces: [{ name: 'lo', index: 1 }] }, 'not-ethernet', /lo .* type 772/],
    ['a ring that is too small', { ringBytes: 8 << 20 }, 'ring-size', /8388608 bytes, allowed: .*16 MiB/],
    ['more than 2 GiB', { ringBytes: 2 ** 31 }, 'ring-size', /allowed: 2 GiB.* lower io.ringMegabytes/],
    ['more shards than fit', { shards: 100 }, 'ring-size', /2401 MiB for 100 shards, .* lower workers/],
  ])('refuses %s, says why, and leaves nothing open', (_, change, code, message) => {
    const before = openFiles()
    expect(attempt(change)).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }))
    expect(openFiles()).toBe(before)
  })

  it('closes what it has opened when a later interface fails', () => {
    const two = { interfaces: [...inside(near, () => interfaces('near0')), { name: 'wan7', index: 0 }] }
    const before = openFiles()
    expect(attempt(two)).toThrow(/wan7/)
    expect(openFiles()).toBe(before)
  })

  it('says which right is missing', () => {
    process.seteuid?.(65534)
    try {
      expect(() => openAfPacket({ interfaces: [{ name: 'x', index: 1 }], ...options })).toThrow(
        expect.objectContaining({ code: 'not-permitted', message: expect.stringMatching(/CAP_NET_RAW/) }),
      )
    } finally {
      process.seteuid?.(0)
    }
  })

  it('rounds a ring down to whole blocks', () => {
    inside(near, () => {
      const ringBytes = RING + (5 << 20)
      const opened = openAfPacket({ interfaces: interfaces('near0'), ...options, ringBytes })
      expect(opened.rings).toMatchObject([{ ringBytes: 20 << 20, frames: 5 * 63 }])
      opened.close()
    })
  })

  it('opens in a user namespace, where a send buffer may not be forced', () => {
    const script = `
      import { openAfPacket } from './dist/src/io/af-packet-open.js'
      import { eventfd, interfaceIndex } from './dist/src/io/syscalls.js'
      const interfaces = [{ name: 'd0', index: interfaceIndex('d0') }]
      const options = { shards: 1, ringBytes: ${RING}, qdiscBypass: [true], wakeFds: [eventfd()], dispatch: 'kernel' }
      const opened = openAfPacket({ interfaces, ...options })
      console.log(opened.rings[0].frames)
      opened.close()`
    const command = 'ip link add d0 type veth peer name d1 && node --input-type=module -e "$1"'
    const said = execFileSync('unshare', ['-Urn', 'sh', '-c', command, 'sh', script], { encoding: 'utf8' })
    expect(said).toBe('252\n')
  })
})
