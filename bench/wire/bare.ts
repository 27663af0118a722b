// Runs in the gateway: forwards frames from one interface to the other through natloom's own driver and changes only
// their Ethernet addresses. Without tracking, translation and checks, it shows the price of packet sockets on this
// machine: no gateway that is built on them can be faster.

import { AfPacketDriver } from '../../src/io/af-packet.ts'
import { openAfPacket } from '../../src/io/af-packet-open.ts'
import { BURST } from '../../src/io/driver.ts'
import { eventfd, interfaceIndex } from '../../src/io/syscalls.ts'
import { parseMac } from '../../src/wire/address.ts'
import * as ethernet from '../../src/wire/ethernet.ts'

export interface Bare {
  /** Two interfaces: each one's name and address, and the address of the host behind it. */
  readonly links: readonly { readonly name: string; readonly mac: string; readonly host: string }[]
}

const RING_BYTES = 128 << 20
const LONGEST_SLEEP_MS = 50

const { links } = JSON.parse(process.argv[2] ?? '{}') as Bare
const { rings } = openAfPacket({
  interfaces: links.map(({ name }) => ({ name, index: interfaceIndex(name) })),
  shards: 1,
  ringBytes: RING_BYTES,
  qdiscBypass: links.map(() => true),
  wakeFds: [eventfd()],
  dispatch: 'kernel',
})
const driver = new AfPacketDriver(rings[0]!)
const mem = new DataView(driver.packetMemory)
const at = new Int32Array(BURST)
const length = new Int32Array(BURST)
/** By port: the MAC addresses of a frame that leaves by it, and the destination of a frame that comes by it. */
const words = links.map(({ mac, host }) => ethernet.addressWords(parseMac(host), parseMac(mac)))
const own = links.map(({ mac }) => new DataView(parseMac(mac).buffer))

function forward(from: number): number {
  const count = driver.receive(from, at, length)
  const to = 1 - from
  const mac = own[from] as DataView
  for (let i = 0; i < count; i++) {
    const frame = at[i] as number
    const isOurs =
      ethernet.dstHigh(mem, frame) === mac.getInt32(0, true) && ethernet.dstLow(mem, frame) === mac.getUint16(4, true)
    if (!isOurs || ethernet.etherType(mem, frame) !== ethernet.TYPE_IPV4) continue
    const [w0, w1, w2] = words[to] as [number, number, number]
    ethernet.setAddressWords(mem, frame, w0, w1, w2)
    driver.send(to, frame, length[i] as number)
  }
  if (count > 0) driver.flush()
  driver.release(from)
  return count
}

process.send?.('ready')
// SIGTERM ends the process: the loop never yields.
for (;;) if (forward(0) + forward(1) === 0) driver.wait(LONGEST_SLEEP_MS)
