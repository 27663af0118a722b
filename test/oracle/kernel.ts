// The kernel as a gateway under the same frames: a namespace that forwards, with masquerade (which keeps source ports
// that are free), one port forward, and `ct state invalid drop`. Frames go in and come out by packet sockets at the far
// ends of its two cables, which belong to namespaces without an address, so that nobody there answers.
//
// What did not arrive was dropped: that is known by markers, datagrams of another flow that follow each lot of segments
// on both sides and surely pass. No marker can overtake: a frame sent into a veth is taken up by the backlog of the
// processor that sends it, in order, and this thread is bound to one. Each frame carries its step, and one that comes
// after its step's markers ends the run.

import { constants } from 'node:os'
import koffi from 'koffi'
import {
  AF_PACKET,
  bind,
  close,
  errno,
  interfaceIndex,
  MSG_DONTWAIT,
  POLLIN,
  pollArray,
  recv,
  SO_RCVBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_PACKET,
  SOL_SOCKET,
  send,
  setsockoptInt,
  socket,
} from '../../src/io/syscalls.ts'
import { type Namespace, veth } from '../../src/lab/world/namespace.ts'
import { build, type FrameSpec } from '../../src/testing/builder.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { writeTransportChecksum } from '../../src/wire/checksum.ts'
import { EXTERNAL, HOST, LAN_ADDRESS, MAC, ROUTER, SERVER } from '../datapath/network.ts'
import { inside } from '../host/inside.ts'
import { PATIENCE_MS } from '../patience.ts'
import { ConntrackDump, type Entry } from './conntrack-dump.ts'
import { FIRST_PORT, FORWARDED_PORT, frameOf, HELPED_PORT, MOST_AT_ONCE, placeOf } from './frames.ts'
import type { Gateway, Observation, Tracked } from './observation.ts'
import { type Sequence, type Side, sideOf } from './script.ts'

export interface KernelSettings {
  /** net.netfilter.nf_conntrack_tcp_loose */
  readonly pickup: boolean
  /** net.netfilter.nf_conntrack_tcp_be_liberal */
  readonly liberal: boolean
}

export interface Hosts {
  readonly lan: Namespace
  readonly gateway: Namespace
  readonly outside: Namespace
}

/** Segments between two markers: fewer than the kernel's backlog holds (net.core.netdev_max_backlog, 1000). */
const LOT = 128
const PACKET_IGNORE_OUTGOING = 23
const ETH_P_ALL = 3
const RECEIVE_BUFFER = 64 << 20
const MARKER_PORT = 9
const SIDES = ['inside', 'outside'] as const

const RULES = `
table ip oracle {
  ct helper ftp { type "ftp" protocol tcp; l3proto ip; }
  chain helpers { type filter hook prerouting priority -150; tcp dport ${HELPED_PORT} ct helper set "ftp"; }
  chain forward { type filter hook forward priority 0; policy accept; ct state invalid counter drop; }
  chain input { type filter hook input priority 0; policy drop; }
  chain prerouting { type nat hook prerouting priority -100; iifname wan0 tcp dport ${FORWARDED_PORT} dnat to ${HOST}; }
  chain postrouting { type nat hook postrouting priority 100; oifname wan0 masquerade; }
}`

export class KernelGateway implements Gateway {
  readonly #hosts: Hosts
  readonly #ends: Record<Side, PacketEnd>
  readonly #dump: ConntrackDump
  #markers = 0

  constructor(hosts: Hosts) {
    this.#hosts = hosts
    const { lan, gateway, outside } = hosts
    for (const host of Object.values(hosts))
      host.exec('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1')
    veth(gateway, 'lan0', lan, 'far0')
    veth(gateway, 'wan0', outside, 'far0')
    gateway.exec('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.netfilter.nf_conntrack_acct=1')
    for (const [name, address, mac] of [
      ['lan0', LAN_ADDRESS, MAC.lan],
      ['wan0', EXTERNAL, MAC.wan],
    ] as const) {
      gateway.ip(`link set ${name} address ${mac}`)
      gateway.ip(`addr add ${address}/24 dev ${name}`)
    }
    gateway.ip(`route add default via ${ROUTER} dev wan0`)
    gateway.ip(`neigh replace ${HOST} lladdr ${MAC.host} dev lan0 nud permanent`)
    gateway.ip(`neigh replace ${ROUTER} lladdr ${MAC.server} dev wan0 nud permanent`)
    gateway.exec('nft', RULES)
    bindToOneProcessor()
    this.#ends = { inside: new PacketEnd(lan), outside: new PacketEnd(outside) }
    this.#dump = inside(gateway, () => new ConntrackDump())
  }

  set({ pickup, liberal }: KernelSettings): void {
    const names = { tcp_loose: pickup, tcp_be_liberal: liberal, checksum: true }
    const words = Object.entries(names).map(([name, on]) => `net.netfilter.nf_conntrack_${name}=${Number(on)}`)
    this.#hosts.gateway.exec('sysctl', '-qw', ...words)
  }

  run(sequences: readonly Sequence[]): Observation[][] {
    if (sequences.length > MOST_AT_ONCE) throw new RangeError(`${sequences.length} sequences at once`)
    this.#dump.flush()
    const seen: Observation[][] = sequences.map(() => [])
    const known = new Map<number, Entry>()
    const longest = Math.max(...sequences.map(({ segments }) => segments.length))
    for (let step = 0; step < longest; step++) {
      const slots = sequences.flatMap(({ segments }, slot) => (step < segments.length ? [slot] : []))
      const arrived = this.#step(sequences, slots, step)
      const entries = new Map(this.#dump.list().map((entry) => [slotOf(entry), entry]))
      for (const slot of slots) {
        const side = sideOf(sequences[slot]!, sequences[slot]!.segments[step]!.end)
        const entry = entries.get(slot)
        const before = known.get(slot)
        if (entry) known.set(slot, entry)
        seen[slot]!.push({
          arrived: arrived[other(side)].get(slot) ?? [],
          answers: arrived[side].get(slot)?.length ?? 0,
          tracked: entry && trackedOf(entry),
          counted: entry && hasCounted(entry, before),
        })
      }
    }
    return seen
  }

  /** Sends the segment of each slot; what arrived on each side, by slot. */
  #step(
    sequences: readonly Sequence[],
    slots: readonly number[],
    step: number,
  ): Record<Side, Map<number, Uint8Array[]>> {
    const arrived: Record<Side, Map<number, Uint8Array[]>> = { inside: new Map(), outside: new Map() }
    for (let first = 0; first < slots.length; first += LOT) {
      for (const slot of slots.slice(first, first + LOT)) {
        const sequence = sequences[slot]!
        const segment = sequence.segments[step]!
        this.#ends[sideOf(sequence, segment.end)].send(frameOf(sequence, segment, slot, step))
      }
      const marker = ++this.#markers
      // The marker from inside comes first: it makes the flow that the one from outside answers.
      this.#ends.inside.send(markerFrame('inside', marker))
      this.#ends.outside.send(markerFrame('outside', marker))
      for (const side of SIDES)
        this.#ends[side].until(marker, (frame) => {
          const place = placeOf(frame)
          if (!place) throw new Error(`a frame that nobody expected came ${side}`)
          if (place.step !== step) throw new Error(`a frame of step ${place.step} came after the markers of that step`)
          if (sequences[place.slot]?.helped) completeChecksum(frame)
          arrived[side].set(place.slot, [...(arrived[side].get(place.slot) ?? []), frame])
        })
    }
    return arrived
  }

  close(): void {
    this.#dump.close()
    for (const side of SIDES) this.#ends[side].close()
  }
}

const IP_AT = 14

/** The kernel leaves the checksum of what a helper has changed to the link, and this link leaves it out. */
function completeChecksum(frame: Uint8Array): void {
  writeTransportChecksum(new DataView(frame.buffer, frame.byteOffset, frame.byteLength), IP_AT)
}

const other = (side: Side): Side => (side === 'inside' ? 'outside' : 'inside')
const REMOTE = parseAddress(SERVER)

const packetsOf = ({ packets: [original, reply] }: Entry): number => original + reply

/** Undefined if it can't be told: an entry with one packet may be another one in the same place, with the same id. */
function hasCounted(entry: Entry, before: Entry | undefined): boolean | undefined {
  if (entry.id !== before?.id || packetsOf(entry) > packetsOf(before)) return true
  return packetsOf(entry) === 1 ? undefined : false
}

const slotOf = ({ sourcePort, destinationPort }: Entry): number =>
  (sourcePort >= FIRST_PORT ? sourcePort : destinationPort) - FIRST_PORT

const trackedOf = ({ state, seenReply, assured, sourceAddress }: Entry): Tracked => ({
  state,
  seenReply,
  assured,
  origin: sourceAddress === REMOTE ? 'outside' : 'inside',
})

function markerFrame(side: Side, number: number): Uint8Array {
  const payload = new Uint8Array(Uint32Array.of(number).buffer)
  const udp = { sport: MARKER_PORT, dport: MARKER_PORT }
  const spec: FrameSpec =
    side === 'inside'
      ? { eth: { src: MAC.host, dst: MAC.lan }, ip: { src: HOST, dst: SERVER }, udp, payload }
      : { eth: { src: MAC.server, dst: MAC.wan }, ip: { src: SERVER, dst: EXTERNAL }, udp, payload }
  const mem = new DataView(new ArrayBuffer(128))
  return new Uint8Array(mem.buffer, 10, build(mem, 10, spec))
}

const MARKER_LENGTH = 46

/** The number of a marker that has come through; 0 of other frames. */
function markerOf(frame: Uint8Array): number {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  const isMarker = frame.length === MARKER_LENGTH && frame[23] === 17 && view.getUint16(36) === MARKER_PORT
  return isMarker ? view.getUint32(42, true) : 0
}

/** The end of a cable that plays a whole side: it sends any frame, and sees any that comes. */
class PacketEnd {
  readonly #fd: number
  readonly #buffer = new Uint8Array(1 << 16)
  readonly #poll = new Uint8Array(8)

  constructor(host: Namespace) {
    this.#fd = inside(host, () => {
      const fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)
      setsockoptInt(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
      setsockoptInt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
      const address = new DataView(new ArrayBuffer(20)) // struct sockaddr_ll
      address.setUint16(0, AF_PACKET, true)
      address.setUint16(2, ETH_P_ALL)
      address.setInt32(4, interfaceIndex('far0'), true)
      bind(fd, new Uint8Array(address.buffer))
      return fd
    })
    new Int32Array(this.#poll.buffer).set([this.#fd, POLLIN])
  }

  send(frame: Uint8Array): void {
    const sent = send(this.#fd, frame, 0)
    if (sent !== frame.length) throw new Error(`a frame of ${frame.length} bytes was not sent: error ${errno()}`)
  }

  /** Takes frames until the marker with this number has come. */
  until(marker: number, each: (frame: Uint8Array) => void): void {
    for (;;) {
      const length = recv(this.#fd, this.#buffer, MSG_DONTWAIT)
      if (length < 0 && errno() !== constants.errno.EAGAIN) throw new Error(`nothing can be received: error ${errno()}`)
      if (length < 0 && pollArray(this.#poll, 1, PATIENCE_MS) === 0) throw new Error(`marker ${marker} never came`)
      if (length < 0) continue
      const frame = this.#buffer.slice(0, length)
      const number = markerOf(frame)
      if (number === marker) return
      if (number === 0) each(frame)
      else throw new Error(`marker ${number} came where ${marker} was due`)
    }
  }

  close(): void {
    close(this.#fd)
  }
}

/** This thread stays on the processor that it is on: sched_setaffinity(2). */
function bindToOneProcessor(): void {
  const libc = koffi.load(null)
  const current = libc.func('int sched_getcpu()')
  const affinity = libc.func('int sched_setaffinity(int thread, uintptr_t length, const uint8_t *mask)')
  const cpu = current() as number
  const mask = new Uint8Array(128)
  mask[cpu >> 3] = 1 << (cpu & 7)
  if (affinity(0, mask.length, mask) !== 0) throw new Error(`this thread can't be bound to processor ${cpu}`)
}
