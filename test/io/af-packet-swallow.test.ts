import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { AfPacketDriver } from '../../src/io/af-packet.ts'
import type { AfPacketRings } from '../../src/io/af-packet-layout.ts'
import { swallowingDriver } from '../../src/io/af-packet-swallow.ts'
import { BURST } from '../../src/io/driver.ts'
import { type Address, MAP_ANONYMOUS, MAP_SHARED, mmap, munmap, PROT_READ_WRITE } from '../../src/io/syscalls.ts'

const SCRATCH = 8 << 20
/** What the shard needs of it (datapath/packet/packet-memory.ts, egress/kept-pages.ts). */
const LEFT_TO_THE_SHARD = 5 << 20
/** As many as a configuration may name. */
const MOST_PORTS = 256

let address: Address
beforeEach(() => {
  address = mmap(0, SCRATCH, PROT_READ_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1)
})
// A view of unmapped memory may be collected, but not touched.
afterEach(() => munmap(address, SCRATCH))

/** A shard's rings whose scratch is all that there is. */
const rings = (ports: number): AfPacketRings => ({
  packetMemoryAddress: address,
  packetMemoryLength: SCRATCH,
  ringsAt: 0,
  ringBytes: 0,
  frames: 0,
  scratchAt: 0,
  scratchLength: SCRATCH,
  controlAt: 0,
  sharedAt: SCRATCH,
  sharedLength: 0,
  wakeFd: -1,
  ports: Array.from({ length: ports }, (_, port) => ({ name: `port${port}`, receiveFd: -1, sendFd: -1 })),
})

/** The frames that a port lists, as text. */
function received(driver: AfPacketDriver, port: number): string[] {
  const [at, length] = [new Int32Array(BURST), new Int32Array(BURST)]
  const count = driver.receive(port, at, length)
  return Array.from({ length: count }, (_, i) => Buffer.from(driver.packetMemory, at[i]!, length[i]!).toString())
}

describe('the af-packet driver without links', () => {
  for (const ports of [2, 3, MOST_PORTS])
    it(`gives each frame that is injected once, by its port, of ${ports}`, () => {
      const { driver, inject } = swallowingDriver(rings(ports))
      for (let round = 0; round < 5; round++)
        for (const port of [0, ports - 1]) {
          inject(port, Buffer.from(`frame ${round} of port ${port}`))
          expect(received(driver, port)).toEqual([`frame ${round} of port ${port}`])
          driver.release(port)
          expect(received(driver, port)).toEqual([])
          driver.release(port)
        }
    })

  it('swallows what is sent', () => {
    const { driver, inject } = swallowingDriver(rings(2))
    inject(0, Buffer.from('a frame'))
    const [at, length] = [new Int32Array(BURST), new Int32Array(BURST)]
    driver.receive(0, at, length)
    driver.send(1, at[0]!, length[0]!)
    driver.flush()
    driver.release(0)
    expect(driver.sendFailures(1)).toBe(1)
  })

  it('leaves the shard the scratch that it needs, with as many ports as there may be', () => {
    const { driver } = swallowingDriver(rings(MOST_PORTS))
    expect(driver.scratchLength).toBeGreaterThanOrEqual(LEFT_TO_THE_SHARD)
  })
})
