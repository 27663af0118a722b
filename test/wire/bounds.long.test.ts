// Whatever the bytes: if `fits` says so, nothing is read past the packet. The packet stands at the very end of its
// memory, so that a read past it throws.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fragments } from '../../src/testing/builder.ts'
import { print } from '../../src/testing/printer.ts'
import * as arp from '../../src/wire/arp.ts'
import { transportChecksumOk } from '../../src/wire/checksum.ts'
import * as ethernet from '../../src/wire/ethernet.ts'
import * as icmp from '../../src/wire/icmp.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import * as tcp from '../../src/wire/tcp.ts'
import * as udp from '../../src/wire/udp.ts'
import * as virtioNet from '../../src/wire/virtio-net.ts'
import { damagedFrame } from './arbitraries.ts'
import { atEnd } from './memory.ts'

const RUNS = { numRuns: 3000 }

type Read = (mem: DataView, at: number) => unknown

function readAll(mem: DataView, at: number, ...reads: readonly Read[]): void {
  for (const read of reads) read(mem, at)
}

function readEthernet(mem: DataView, at: number, end: number): void {
  if (!ethernet.fits(mem, at, end)) return
  readAll(mem, at, ethernet.etherType, ethernet.isGroup)
  readAll(mem, at, ethernet.dstHigh, ethernet.dstLow, ethernet.srcHigh, ethernet.srcLow)
  arp.parse(mem, at + ethernet.HEADER_LEN, end)
  readIpv4(mem, at + ethernet.HEADER_LEN, end)
}

function readIpv4(mem: DataView, at: number, end: number): void {
  if (!ipv4.fits(mem, at, end)) return
  readAll(mem, at, ipv4.versionAndLength, ipv4.tos, ipv4.id, ipv4.fragmentWord, ipv4.isFragment, ipv4.ttl)
  readAll(mem, at, ipv4.checksum, ipv4.src, ipv4.dst, ipv4.headerOk, ipv4.optionsFault)
  readTransport(mem, at, at + ipv4.headerLen(mem, at), at + ipv4.totalLength(mem, at))
}

function readTransport(mem: DataView, ipAt: number, at: number, end: number): void {
  const protocol = ipv4.protocol(mem, ipAt)
  if (protocol === ipv4.PROTO_TCP && tcp.fits(mem, at, end)) {
    readAll(mem, at, tcp.ports, tcp.srcPort, tcp.dstPort, tcp.seq, tcp.ack, tcp.flags, tcp.window)
    readAll(mem, at, tcp.checksum, tcp.urgent, tcp.optionsFault, tcp.mss, tcp.windowScale)
    readSack(mem, tcp.findOption(mem, at, tcp.OPTION_SACK))
    tcp.clampMss(mem, at, 1000)
    transportChecksumOk(mem, ipAt)
  }
  if (protocol === ipv4.PROTO_UDP && udp.fits(mem, at, end)) {
    readAll(mem, at, udp.ports, udp.srcPort, udp.dstPort, udp.length, udp.checksum)
    transportChecksumOk(mem, ipAt)
  }
  if (protocol === ipv4.PROTO_ICMP && icmp.fits(mem, at, end)) {
    readAll(mem, at, icmp.type, icmp.code, icmp.checksum, icmp.id, icmp.seq, icmp.nextHopMtu, icmp.originalLength)
    transportChecksumOk(mem, ipAt)
    readIpv4(mem, at + icmp.EMBEDDED, end)
  }
}

function readSack(mem: DataView, option: number): void {
  if (option === 0) return
  for (let i = 0; i < tcp.sackBlocks(mem, option); i++) {
    tcp.sackLeft(mem, tcp.sackBlock(option, i))
    tcp.sackRight(mem, tcp.sackBlock(option, i))
  }
}

describe('random, damaged and truncated frames', () => {
  it('are never read past their end', () => {
    fc.assert(
      fc.property(damagedFrame(), (bytes) => {
        const { mem, at, end } = atEnd(bytes)
        readEthernet(mem, at, end)
      }),
      RUNS,
    )
  })

  it('are printed, whatever they are, in one line', () => {
    fc.assert(
      fc.property(damagedFrame(), (bytes) => {
        const { mem, at } = atEnd(bytes)
        const line = print(mem, at, bytes.length)
        expect(line).not.toBe('')
        expect(line).not.toMatch(/\n|NaN|undefined/)
      }),
      RUNS,
    )
  })

  it('are printed from no byte past the length given', () => {
    fc.assert(
      fc.property(damagedFrame(), fc.uint8Array({ minLength: 64, maxLength: 64 }), (bytes, after) => {
        const followed = Uint8Array.of(...bytes, ...after)
        expect(print(new DataView(followed.buffer), 0, bytes.length)).toBe(print(atEnd(bytes).mem, 0, bytes.length))
      }),
      RUNS,
    )
  })

  it('are completed or refused within their length, whatever the virtio-net header says', () => {
    fc.assert(
      fc.property(damagedFrame(), fc.uint8Array({ minLength: 10, maxLength: 10 }), (bytes, header) => {
        const { mem, at } = atEnd(bytes, virtioNet.HEADER_LEN)
        new Uint8Array(mem.buffer).set(header)
        const owed = virtioNet.needsChecksum(mem, at)
        const done = virtioNet.completeChecksum(mem, at, bytes.length)
        expect(virtioNet.needsChecksum(mem, at)).toBe(owed && !done)
      }),
      RUNS,
    )
  })
})

describe('options that fit', () => {
  it('are copied into fragments without a byte written past the header', () => {
    fc.assert(
      fc.property(damagedFrame(), (bytes) => {
        const { mem, end } = atEnd(bytes)
        const ipAt = ethernet.HEADER_LEN
        fc.pre(ipv4.fits(mem, ipAt, end) && !ipv4.optionsFault(mem, ipAt))
        for (const piece of fragments(bytes, 16)) {
          const made = atEnd(piece)
          expect(ipv4.fits(made.mem, ipAt, made.end)).toBe(true)
          expect(ipv4.headerOk(made.mem, ipAt)).toBe(true)
          expect(ipv4.optionsFault(made.mem, ipAt)).toBe(false)
        }
      }),
      RUNS,
    )
  })
})
