// The af-packet driver between veth pairs: its two ports are in one namespace, each far end in another.

import { afterAll, beforeAll } from 'vitest'
import { AfPacketDriver } from '../../src/io/af-packet.ts'
import { closeSeat, openAfPacket } from '../../src/io/af-packet-open.ts'
import { close, eventfd, interfaceIndex } from '../../src/io/syscalls.ts'
import { type Namespace, veth } from '../../src/lab/namespace.ts'
import { describeDriver } from '../contract/driver.ts'
import { FarEnd, inside, quietNamespace } from './far-end.ts'

const PREFIX = `nlt-io${process.pid}`
const RING = 16 << 20
let near: Namespace
let far: Namespace

beforeAll(() => {
  near = quietNamespace(`${PREFIX}-near`)
  far = quietNamespace(`${PREFIX}-far`)
  for (const port of [0, 1]) veth(near, `near${port}`, far, `far${port}`)
})
afterAll(() => {
  near?.delete()
  far?.delete()
})

const interfaces = (...names: string[]) => names.map((name) => ({ name, index: interfaceIndex(name) }))

describeDriver('af-packet', () => {
  const wakeFd = eventfd()
  const seat = inside(near, () =>
    openAfPacket({ interfaces: interfaces('near0', 'near1'), ringBytes: RING, qdiscBypass: [true, false], wakeFd }),
  )
  const driver = new AfPacketDriver(seat)
  const ends = [new FarEnd(far, 'far0'), new FarEnd(far, 'far1')]
  return {
    driver,
    slots: seat.frames,
    wake: { by: 'eventfd', fd: wakeFd },
    deliver: (port, frame, header) => ends[port].send(frame, header),
    collect: (port, count) => ends[port].collect(count),
    close() {
      driver.close()
      closeSeat(seat)
      close(wakeFd)
      for (const end of ends) end.close()
    },
  }
})
