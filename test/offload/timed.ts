// How long the program takes with a datagram that it sends. Test runs repeat on one packet, so the slot translates it
// to itself, and its time to live is what ends.

import { portsWord } from '../../src/conntrack/terms.ts'
import { close } from '../../src/io/syscalls.ts'
import { createSharedValue, loadProgram, testRun, viewOfValue } from '../../src/offload/bpf.ts'
import { Hops } from '../../src/offload/hops.ts'
import { bucketsFor, valueBytes } from '../../src/offload/layout.ts'
import { offloadProgram, REDIRECT } from '../../src/offload/program.ts'
import { prepareValue, Slots } from '../../src/offload/slots.ts'
import { frame } from '../../src/testing/builder.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { PROTO_UDP } from '../../src/wire/ipv4.ts'

const ZEROS = '00:00:00:00:00:00'
const [SRC, DST, SPORT, DPORT] = ['10.0.0.5', '192.0.2.7', 5000, 80] as const
const TTL = 255
const PACKETS = 200
const RUNS = 101

/** Nanoseconds a packet, the median of runs of 200 packets. */
export function timed(): number {
  const options = { seed: 1, buckets: bucketsFor(1024) }
  const map = createSharedValue('natloom_test', valueBytes(options.buckets))
  const value = viewOfValue(map)
  prepareValue(value, options)
  const [slots, hops] = [new Slots(value, 0), new Hops(value)]
  hops.set(0, { interfaceIndex: 1, mtu: 1500, own: new Uint8Array(6), neighbour: new Uint8Array(6) })
  const [src, dst, ports] = [parseAddress(SRC), parseAddress(DST), portsWord(SPORT, DPORT)]
  const slot = slots.claim(src, dst, ports, PROTO_UDP, 0)
  slots.translate(slot, src, dst, ports)
  slots.renew(slot, slots.version(), 0, hops.generation(0))
  slots.publish(slot, PROTO_UDP, 0, 0)
  slots.activate(slot)
  const program = loadProgram('natloom_test', offloadProgram({ map: map.fd, side: 0, ...options }).code)
  const eth = { src: ZEROS, dst: ZEROS }
  const sent = frame({ eth, ip: { src: SRC, dst: DST, ttl: TTL }, udp: { sport: SPORT, dport: DPORT }, payload: 'a' })
  const times = Array.from({ length: RUNS }, () => {
    const { verdict, nanoseconds } = testRun(program, sent, 0, PACKETS)
    if (verdict !== REDIRECT) throw new Error(`the program says ${verdict} to a packet that it is to send`)
    return nanoseconds
  })
  slots.take(slot)
  if (slots.packets !== RUNS * PACKETS) throw new Error(`${slots.packets} packets are counted of ${RUNS * PACKETS}`)
  close(program)
  close(map.fd)
  return times.toSorted((a, b) => a - b)[RUNS >> 1]!
}
