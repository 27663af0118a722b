import { describe, expect, it } from 'vitest'
import { BURST } from '../../src/io/driver.ts'
import { packetMemoryBytes } from '../../src/io/loopback.ts'
import { PCAP_MACS, PcapDriver, staticNetwork } from '../../src/io/pcap.ts'
import { allocate, sharedMemory } from '../../src/memory/region.ts'
import { Fib, FOUND, NEIGHBOUR, ROUTE } from '../../src/routing/fib.ts'
import { formatMac, parseAddress, parsePrefix } from '../../src/wire/address.ts'
import { describeDriver } from '../contract/driver.ts'
import { TOO_LONG } from '../contract/driver-fixture.ts'

describeDriver('pcap', () => {
  const shape = { slots: 128, scratchBytes: 1 << 20, shards: 2, sharedBytes: 4096 }
  const packetMemory = sharedMemory(packetMemoryBytes(shape))
  const driver = new PcapDriver({ ...shape, packetMemory, refuse: (_port, bytes) => bytes.length === TOO_LONG })
  return {
    driver,
    neighbour: new PcapDriver({ ...shape, packetMemory, shard: 1 }),
    successor: () => new PcapDriver({ ...shape, packetMemory }),
    slots: shape.slots,
    wake: { by: 'loopback', options: { ...shape, packetMemory } },
    deliver: (port, bytes, header) => void driver.inject(port, bytes, header),
    collect: (port) =>
      driver.takeSent(port, true).map((bytes) => ({ header: bytes.subarray(0, 10), frame: bytes.subarray(10) })),
    close: () => driver.close(),
  }
})

describe('the pcap driver', () => {
  it('gives a packet the Ethernet header of its port', () => {
    const driver = new PcapDriver()
    const [at, length] = [new Int32Array(BURST), new Int32Array(BURST)]
    for (const port of [0, 1] as const) {
      driver.play(port, Uint8Array.of(0x45, port))
      expect(driver.receive(port, at, length)).toBe(1)
      const mem = new DataView(driver.packetMemory, at[0]!)
      expect([formatMac(mem, 0), formatMac(mem, 6)]).toEqual([PCAP_MACS[port].own, PCAP_MACS[port].router])
      expect([mem.getUint16(12), mem.getUint8(14), mem.getUint8(15), length[0]]).toEqual([0x800, 0x45, port, 16])
      driver.send(1, at[0]!, length[0]!)
      driver.flush()
      driver.release(port)
    }
    const sent: number[] = []
    driver.collect(1, (frame) => sent.push(frame[15]!))
    driver.collect(1, () => sent.push(-1))
    expect(sent).toEqual([0, 1])
  })

  it('routes inside prefixes to port 0, its own address to itself and all else to port 1, and asks nobody', () => {
    const { view: fib } = allocate((region) => new Fib(region, { ports: 2, shards: 1 }))
    const inside = [parsePrefix('10.0.0.0/8'), parsePrefix('198.51.100.7/32')]
    fib.publish(staticNetwork({ inside, outsideAddress: parseAddress('203.0.113.1') }))
    const found = new Int32Array(FOUND.words)
    const routed = (address: string) => {
      fib.lookup(parseAddress(address), found)
      return [found[FOUND.type], found[FOUND.port], found[FOUND.neighbour]]
    }
    expect(routed('10.9.9.9')).toEqual([ROUTE.unicast, 0, NEIGHBOUR.resolved])
    expect(routed('198.51.100.7')).toEqual([ROUTE.unicast, 0, NEIGHBOUR.resolved])
    expect(routed('198.51.100.8')).toEqual([ROUTE.unicast, 1, NEIGHBOUR.resolved])
    expect(routed('203.0.113.1')).toEqual([ROUTE.local, -1, NEIGHBOUR.unknown])
  })

  it('may have all addresses inside', () => {
    const { view: fib } = allocate((region) => new Fib(region, { ports: 2, shards: 1 }))
    fib.publish(staticNetwork({ inside: [parsePrefix('0.0.0.0/0')], outsideAddress: 0 }))
    const found = new Int32Array(FOUND.words)
    fib.lookup(parseAddress('8.8.8.8'), found)
    expect(found[FOUND.port]).toBe(0)
  })
})
