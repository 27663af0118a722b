// A thread that does nothing but publish snapshots until it is told to stop. Snapshot n says n wherever it can, so a
// reader sees a mixture.

import { workerData } from 'node:worker_threads'
import { Region } from '../../src/memory/region.ts'
import { Fib, type FibOptions, NEIGHBOUR, ROUTE } from '../../src/routing/fib.ts'

export interface FibWriterData {
  readonly buffer: SharedArrayBuffer
  readonly options: FibOptions
  readonly destination: number
  /** One i32: 1 ends it. */
  readonly stop: SharedArrayBuffer
}

const { buffer, options, destination, stop } = workerData as FibWriterData
const fib = new Fib(new Region(buffer), options)
for (let n = 1; Atomics.load(new Int32Array(stop), 0) === 0; n++) {
  const mac = new Uint8Array(Int32Array.of(n, n).buffer, 0, 6)
  fib.publish({
    ports: [{ up: true, mtu: 1500, address: n, mac }],
    routes: [
      { destination, length: 32, type: ROUTE.unicast, port: 0, gateway: n, source: n, mtu: 0, metric: 0 },
      { destination: 0, length: 0, type: ROUTE.unicast, port: 0, gateway: -1, source: -1, mtu: 0, metric: 0 },
    ],
    neighbours: [{ port: 0, address: n, state: NEIGHBOUR.resolved, mac }],
  })
}
