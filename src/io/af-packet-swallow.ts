// The af-packet driver without links, over a part of a shard's scratch: what is injected arrives, what is sent is
// refused by the kernel, because there is no such descriptor. For the warm-up of a shard (datapath/warm-up/), which has
// the same class of driver before and after it, so that no call site knows two.
//
//   scratch:  [ left to the shard | rings | control ]
// A ring has two frames, and the rings of the ports overlap: a frame of a warm-up is much shorter than a ring's, and
// there is one at a time.
//
// Owner: the shard's thread, before it has turned.

import { AfPacketDriver } from './af-packet.ts'
import {
  type AfPacketRings,
  controlBytes,
  FRAME_BYTES,
  frameOffset,
  PORT_STATE,
  portControl,
  TP_MAC_NET,
  TP_SNAPLEN,
  TP_STATUS,
  TP_STATUS_USER,
} from './af-packet-layout.ts'
import { VIRTIO_NET_HEADER } from './driver.ts'

const FRAMES = 2
/** From one port's ring to the next one's: more than a header and a frame of a warm-up. */
const RING_BYTES = 4096
const NO_DESCRIPTOR = -1
/** Where the Ethernet header begins in a frame, so that the IPv4 header is aligned as in a real one. */
const MAC_AT = 66
const PAGE = 4096

export interface SwallowingDriver {
  readonly driver: AfPacketDriver
  /** A frame arrives on a port; the one before must have been released. */
  inject(port: number, frame: Uint8Array): void
}

export function swallowingDriver(rings: AfPacketRings): SwallowingDriver {
  const ports = rings.ports.length
  const control = Math.ceil(controlBytes(ports) / PAGE) * PAGE
  const controlAt = rings.scratchAt + rings.scratchLength - control
  const ringsAt = controlAt - Math.ceil((ports * RING_BYTES + FRAMES * FRAME_BYTES) / PAGE) * PAGE
  const driver = new AfPacketDriver({
    ...rings,
    ringsAt,
    ringBytes: RING_BYTES,
    frames: FRAMES,
    scratchLength: ringsAt - rings.scratchAt,
    controlAt,
    ports: rings.ports.map(({ name }) => ({ name, receiveFd: NO_DESCRIPTOR, sendFd: NO_DESCRIPTOR })),
  })
  const bytes = new Uint8Array(driver.packetMemory)
  const words = new Int32Array(driver.packetMemory)
  return {
    driver,
    inject(port, frame) {
      const next = words[(controlAt + portControl(ports, port) + PORT_STATE.next) >> 2]!
      const at = ringsAt + port * RING_BYTES + frameOffset(next)
      bytes.fill(0, at + MAC_AT - VIRTIO_NET_HEADER, at + MAC_AT)
      bytes.set(frame, at + MAC_AT)
      words[(at >> 2) + TP_SNAPLEN] = frame.length
      words[(at >> 2) + TP_MAC_NET] = MAC_AT
      words[(at >> 2) + TP_STATUS] = TP_STATUS_USER
    },
  }
}
