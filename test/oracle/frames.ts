// A sequence's segments as frames of the network around the gateway (datapath/network.ts), with tuples of their own:
// many sequences are under way at the same time, and the port of their remote or inside end tells them apart.
//
//   c inside    10.0.0.5:port -> 192.0.2.7:80, seen outside as 203.0.113.1:port
//   c outside   192.0.2.7:port -> 203.0.113.1:8080, which is forwarded to 10.0.0.5:8080

import { build } from '../../src/testing/builder.ts'
import { writeTransportChecksum } from '../../src/wire/checksum.ts'
import * as tcp from '../../src/wire/tcp.ts'
import { EXTERNAL, HOST, MAC, SERVER } from '../datapath/network.ts'
import { onWire, otherEnd, type Segment, type Sequence, sideOf } from './script.ts'

/** Ports of the sequences under way: within the test gateway's. */
export const FIRST_PORT = 16384
export const MOST_AT_ONCE = 1024
const SERVER_PORT = 80
/** The server that a helper reads. */
export const HELPED_PORT = 21
/** What a client announces, and six characters as it is written, as its place in a script has. */
const announced = (slot: number): string => `${72 + Math.floor(slot / 128)},${100 + (slot % 128)}`
/** Announced ports lie in these. */
export const ANNOUNCED = { first: 72 << 8, last: (81 << 8) - 1 }
/** Forwarded to the same port of the inside host. */
export const FORWARDED_PORT = 8080

const VIRTIO = 10
const IP_AT = VIRTIO + 14
const TCP_AT = IP_AT + 20
const mem = new DataView(new ArrayBuffer(1 << 16))

/** `slot` tells the sequences under way apart, `step` a sequence's frames (it is their identification). */
export function frameOf(sequence: Sequence, at: Segment, slot: number, step: number): Uint8Array {
  const side = sideOf(sequence, at.end)
  const port = FIRST_PORT + slot
  const isOpenedInside = sequence.opener === 'inside'
  const [insidePort, outsidePort] = isOpenedInside
    ? [port, sequence.helped ? HELPED_PORT : SERVER_PORT]
    : [FORWARDED_PORT, port]
  const fromInside = side === 'inside'
  const length = build(mem, VIRTIO, {
    eth: fromInside ? { src: MAC.host, dst: MAC.lan } : { src: MAC.server, dst: MAC.wan },
    ip: fromInside ? { src: HOST, dst: SERVER, id: step } : { src: SERVER, dst: EXTERNAL, id: step },
    tcp: {
      sport: fromInside ? insidePort : outsidePort,
      dport: fromInside ? outsidePort : insidePort,
      flags: at.flags,
      seq: onWire(sequence, at.end, at.seq),
      ack: at.flags.includes('A') || at.ack !== 0 ? onWire(sequence, otherEnd(at.end), at.ack) : 0,
      window: at.window,
      options: optionsOf(sequence, at),
    },
    payload: at.text ? at.text.replace('{port}', announced(slot)) : new Uint8Array(at.length).fill(0x61),
  })
  if (at.urgent > 0) tcp.setUrgent(mem, TCP_AT, at.urgent)
  if (at.dataOffset > 0) tcp.setHeaderLen(mem, TCP_AT, at.dataOffset * 4)
  if (at.urgent > 0 || at.dataOffset > 0) writeTransportChecksum(mem, IP_AT)
  if (at.badChecksum) tcp.setChecksum(mem, TCP_AT, tcp.checksum(mem, TCP_AT) ^ 0x5555)
  return new Uint8Array(mem.buffer.slice(VIRTIO, VIRTIO + length))
}

const NOP = 1

function optionsOf(sequence: Sequence, { end, options }: Segment): Uint8Array {
  const { mss, wscale, sackOK, timestamps, sack = [] } = options
  const edge = (number: number): number[] => {
    const word = onWire(sequence, otherEnd(end), number)
    return [24, 16, 8, 0].map((shift) => (word >>> shift) & 255)
  }
  return Uint8Array.from([
    ...(mss === undefined ? [] : [2, 4, mss >> 8, mss & 255]),
    ...(sackOK ? [NOP, NOP, 4, 2] : []),
    ...(timestamps ? [NOP, NOP, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] : []),
    ...(wscale === undefined ? [] : [NOP, 3, 3, wscale]),
    ...(sack.length > 0 ? [NOP, NOP, 5, 2 + 8 * sack.length, ...sack.flat().flatMap(edge)] : []),
  ])
}

/** The slot of a frame that has come through, and the step that it belongs to; undefined of what is no sequence's. */
export function placeOf(frame: Uint8Array): { slot: number; step: number } | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  if (frame.length < 54 || view.getUint16(12) !== 0x0800 || frame[23] !== 6) return undefined
  const ports = [view.getUint16(34), view.getUint16(36)]
  const port = ports.find((candidate) => candidate >= FIRST_PORT && candidate < FIRST_PORT + MOST_AT_ONCE)
  return port === undefined ? undefined : { slot: port - FIRST_PORT, step: view.getUint16(18) }
}
