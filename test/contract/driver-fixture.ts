// What the driver contract (driver.ts, driver-lending.ts) works with: the fixture that a driver's own test file makes,
// and what the tests do with it again and again. Everything waits for events, nothing for time to pass.

import { BURST, type Driver, VIRTIO_NET_HEADER } from '../../src/io/driver.ts'
import { PATIENCE_MS } from '../patience.ts'
import { numberOf } from './frames.ts'
import type { WakeTarget } from './waker.ts'

export interface Carried {
  readonly header: Uint8Array
  readonly frame: Uint8Array
}

export interface DriverFixture {
  /** Two ports at least, 8 scratch pages at least, nothing received yet. */
  readonly driver: Driver
  /** The driver of another shard, over the same packet memory. */
  readonly neighbour: Driver
  /** A new driver that goes on after `driver`, whose thread has died. */
  successor(): Driver
  /** How many frames a port's ring holds. */
  readonly slots: number
  /** The far end of a port's link sends a frame, with this virtio-net header or one of zeros. */
  deliver(port: number, frame: Uint8Array, virtioHeader?: Uint8Array): void
  /** Waits for `count` frames at the far end of a port. */
  collect(port: number, count: number): Carried[]
  /** How the worker in waker.ts wakes this driver. */
  readonly wake: WakeTarget
  close(): void
}

/** No link under test takes a frame of this length: the MTU is 1500, and it is no super-packet. */
export const TOO_LONG = 1800

/** Where receive() lists frames, for all tests. */
export const at = new Int32Array(BURST)
export const length = new Int32Array(BURST)

/** Waits on the driver until `done`. */
export function waitUntil(driver: Driver, done: () => boolean): void {
  for (const deadline = Date.now() + PATIENCE_MS; !done(); driver.wait(50))
    if (Date.now() > deadline) throw new Error('what the test waits for did not happen')
}

/** Receives `count` frames on a port and copies them; fewer only if no more come for as long as tests wait. */
export function receiveCopies(driver: Driver, port: number, count: number): Carried[] {
  const copies: Carried[] = []
  let deadline = Date.now() + PATIENCE_MS
  while (copies.length < count && Date.now() < deadline) {
    const listed = driver.receive(port, at, length)
    for (let i = 0; i < listed; i++) copies.push(copyOf(driver, at[i], length[i]))
    driver.release(port)
    if (listed === 0) driver.wait(50)
    else deadline = Date.now() + PATIENCE_MS
  }
  return copies
}

/** A copy of a frame and its virtio-net header. */
export function copyOf(driver: Driver, frameAt: number, frameLength: number): Carried {
  const bytes = Uint8Array.from(
    new Uint8Array(driver.packetMemory, frameAt - VIRTIO_NET_HEADER, VIRTIO_NET_HEADER + frameLength),
  )
  return { header: bytes.subarray(0, VIRTIO_NET_HEADER), frame: bytes.subarray(VIRTIO_NET_HEADER) }
}

/** What a test works on. The driver changes when its thread dies and a successor goes on. */
export interface Subject {
  fixture: DriverFixture
  driver: Driver
}

/** Waits until something has arrived, and lists one burst. It stays unreleased. */
export function burst(driver: Driver, port: number): number {
  let listed = 0
  waitUntil(driver, () => {
    listed = driver.receive(port, at, length)
    return listed > 0
  })
  return listed
}

export const sequence = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i)
export const numbers = (carried: readonly Carried[]): number[] => carried.map(({ frame }) => numberOf(frame))
