// UDP-Lite (RFC 3828) and DCCP (RFC 4340): natloom knows no ports of theirs, but their checksums cover the addresses
// that it changes. Every frame that leaves a gateway here has its checksum computed in full (datapath/verify.ts), over
// what it says that it covers; these tests make frames by the same rules and break them one by one.

import { beforeEach, describe, expect, it } from 'vitest'
import { type FrameSpec, fragments, frame } from '../../src/testing/builder.ts'
import { Gateway } from '../datapath/gateway.ts'
import { EXTERNAL, HOST, LAN, MAC, ROUTER, SERVER, WAN } from '../datapath/network.ts'
import { decode, decodeIp, icmpError } from '../datapath/packets.ts'
import { sumOf } from '../datapath/verify.ts'

const [UDPLITE, DCCP] = [136, 33]
const DCCP_DATA = 2

const addressBytes = (address: string): number[] => address.split('.').map(Number)

/** The datagram with its checksum, which covers `covered` bytes and the pseudo-header. */
function summed(src: string, dst: string, protocol: number, body: Uint8Array, covered: number): Uint8Array {
  const pseudo = [...addressBytes(src), ...addressBytes(dst), 0, protocol, body.length >> 8, body.length & 255]
  const sum = ~sumOf(body.subarray(0, covered), sumOf(Uint8Array.from(pseudo))) & 0xffff || 0xffff
  body.set([sum >> 8, sum & 255], 6)
  return body
}

type Make = (src: string, dst: string, payload: string) => FrameSpec

/** `coverage` as RFC 3828 has it: bytes from the header on; 0: all. */
const udplite =
  (coverage: number): Make =>
  (src, dst, payload) => {
    const body = Buffer.from(`\x13\x88\x17\x70\0${String.fromCharCode(coverage)}\0\0${payload}`, 'latin1')
    const protocol = { number: UDPLITE }
    return { ip: { src, dst }, protocol, payload: summed(src, dst, UDPLITE, body, coverage || body.length) }
  }

/** `coverage` as RFC 4340 has it: of the payload one word less than that; 0: all. The long header of DCCP-Data. */
const dccp =
  (coverage: number): Make =>
  (src, dst, payload) => {
    const body = Buffer.alloc(16 + payload.length)
    body.set([0x13, 0x88, 0x17, 0x70, 4, coverage, 0, 0, (DCCP_DATA << 1) | 1, 0, 1, 2, 3, 4, 5, 6])
    body.write(payload, 16)
    const covered = coverage === 0 ? body.length : 16 + (coverage - 1) * 4
    return { ip: { src, dst }, protocol: { number: DCCP }, payload: summed(src, dst, DCCP, body, covered) }
  }

/** The short header, whose sequence number has 24 bits: DCCP-Data without an acknowledgement has no more. */
const shortDccp: Make = (src, dst, payload) => {
  const body = Buffer.alloc(12 + payload.length)
  body.set([0x13, 0x88, 0x17, 0x70, 3, 0, 0, 0, DCCP_DATA << 1, 1, 2, 3])
  body.write(payload, 12)
  return { ip: { src, dst }, protocol: { number: DCCP }, payload: summed(src, dst, DCCP, body, body.length) }
}

const KINDS: readonly (readonly [string, number, Make])[] = [
  ['UDP-Lite, all covered', UDPLITE, udplite(0)],
  ['UDP-Lite, the header covered', UDPLITE, udplite(8)],
  ['UDP-Lite, a part of the payload covered', UDPLITE, udplite(12)],
  ['DCCP, all covered', DCCP, dccp(0)],
  ['DCCP with a short sequence number', DCCP, shortDccp],
  ['DCCP, the header covered', DCCP, dccp(1)],
  ['DCCP, a part of the payload covered', DCCP, dccp(3)],
]

let gateway: Gateway
beforeEach(async () => {
  gateway = await Gateway.start({ nat: { protocols: [UDPLITE, DCCP] } })
})

for (const [what, number, make] of KINDS)
  describe(what, () => {
    it('has a right checksum on either side', () => {
      for (const payload of ['', 'odd', 'fourteen bytes']) {
        const [out] = gateway.inside(make(HOST, SERVER, payload))
        expect(decode(out!)).toMatchObject({ src: EXTERNAL, dst: SERVER, protocol: number })
        expect(decode(out!).body).toEqual(decode(frame(make(EXTERNAL, SERVER, payload))).body)
        const [back] = gateway.outside(make(SERVER, EXTERNAL, payload))
        expect(decode(back!).body).toEqual(decode(frame(make(SERVER, HOST, payload))).body)
      }
      gateway.check()
    })

    it('stays wrong if it was', () => {
      gateway.verifiesTransport = false
      const damaged = { ...make(HOST, SERVER, 'payload') }
      const body = (damaged.payload as Uint8Array).slice()
      body[0]! ^= 1
      const [out] = gateway.inside({ ...damaged, payload: body })
      const right = Buffer.from(decode(frame(make(EXTERNAL, SERVER, 'payload'))).body)
      right[0]! ^= 1
      expect(Buffer.from(decode(out!).body)).toEqual(right)
    })

    it('is repaired in what an ICMP error embeds, from outside and from inside', () => {
      const [out] = gateway.inside(make(HOST, SERVER, 'payload'))
      for (const bytes of [28, 27 + number]) {
        const [error] = gateway.outside(icmpError(ROUTER, EXTERNAL, out!, { bytes }))
        const embedded = decodeIp(decode(error!).embedded)
        expect(embedded).toMatchObject({ src: HOST, dst: SERVER })
        const sent = decode(frame(make(HOST, SERVER, 'payload'))).body
        expect(embedded.body).toEqual(sent.subarray(0, bytes - 20))
      }
      const [back] = gateway.outside(make(SERVER, EXTERNAL, 'payload'))
      const [error] = gateway.inside(icmpError(HOST, SERVER, back!))
      const came = decode(frame(make(SERVER, EXTERNAL, 'payload'))).body
      expect(decodeIp(decode(error!).embedded).body).toEqual(came.subarray(0, 8))
    })

    it('is repaired in the first fragment; the later ones are not touched', () => {
      const payload = 'x'.repeat(100)
      const whole = frame({ eth: { src: MAC.host, dst: MAC.lan }, ...make(HOST, SERVER, payload) })
      const pieces = fragments(whole, 48).map((piece) => gateway.inside(piece)[0]!)
      const bodies = pieces.map((piece) => Buffer.from(decode(piece).body))
      expect(Buffer.concat(bodies)).toEqual(Buffer.from(decode(frame(make(EXTERNAL, SERVER, payload))).body))
    })

    it('keeps a sum of the pseudo-header alone right, where the link is to compute the rest', () => {
      // virtio_net_hdr: VIRTIO_NET_HDR_F_NEEDS_CSUM, where the summing begins, and where the sum goes from there.
      const needsChecksum = Uint8Array.of(1, 0, 0, 0, 0, 0, 14 + 20, 0, 6, 0)
      const partial = (src: string, dst: string): FrameSpec => {
        const body = (make(src, dst, 'payload').payload as Uint8Array).slice()
        const sum = sumOf(Uint8Array.of(...addressBytes(src), ...addressBytes(dst), 0, number, 0, body.length))
        body.set([sum >> 8, sum & 255], 6)
        return { ip: { src, dst }, protocol: { number }, payload: body }
      }
      const [out] = gateway.inside(partial(HOST, SERVER), needsChecksum)
      expect(decode(out!).body).toEqual(decode(frame(partial(EXTERNAL, SERVER))).body)
    })

    it('is dropped if there is no header', () => {
      for (const [port, src, dst] of [
        [LAN, HOST, SERVER],
        [WAN, SERVER, EXTERNAL],
      ] as const) {
        const short = { ip: { src, dst }, protocol: { number }, payload: new Uint8Array(7) }
        expect(gateway.fate(port, short)).toBe('transport-short')
      }
    })
  })

it('a sum of zero is sent as ones, as UDP-Lite demands', () => {
  // The two bytes of payload that make the sum zero behind the translation, found by trying all.
  for (let word = 0; word < 0x10000; word++) {
    const payload = String.fromCharCode(word >> 8, word & 255)
    const make = udplite(0)
    const body = Buffer.from(decode(frame(make(EXTERNAL, SERVER, payload))).body)
    if (body.readUInt16BE(6) !== 0xffff) continue
    expect(Buffer.from(decode(gateway.inside(make(HOST, SERVER, payload))[0]!).body)).toEqual(body)
    return
  }
  expect.unreachable()
})
