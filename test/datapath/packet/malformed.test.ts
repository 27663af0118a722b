import { beforeAll, describe, expect, it } from 'vitest'
import { DROP, DROP_REASONS } from '../../../src/counters/drop-reasons.ts'
import { frame } from '../../../src/testing/builder.ts'
import { Gateway } from '../gateway.ts'
import { HOST, LAN, MAC, SERVER } from '../network.ts'
import { tcpSegment, udp } from '../packets.ts'
import {
  MALFORMED_FRAGMENTS,
  MALFORMED_ICMP,
  MALFORMED_IP,
  MALFORMED_PORTLESS,
  MALFORMED_TCP,
  MALFORMED_UDP,
  type Malformed,
} from './malformed.ts'

const ALL: Readonly<Record<string, readonly Malformed[]>> = {
  IPv4: MALFORMED_IP,
  TCP: MALFORMED_TCP,
  UDP: MALFORMED_UDP,
  'UDP-Lite and DCCP': MALFORMED_PORTLESS,
  ICMP: MALFORMED_ICMP,
  fragments: MALFORMED_FRAGMENTS,
}

let gateway: Gateway
beforeAll(async () => {
  gateway = await Gateway.start({ icmpErrorsPerSecond: 100_000 })
})

for (const [protocol, packets] of Object.entries(ALL))
  describe(`malformed ${protocol}`, () => {
    for (const [what, reason, bytes] of packets)
      it(`${what}: ${reason}`, () => {
        expect(gateway.fate(LAN, bytes)).toBe(reason)
        // Nothing was created, and the sender isn't told about what it may not have sent.
        expect(gateway.tables.connections.connections.used).toBe(0)
        expect(gateway.toLan()).toEqual([])
        gateway.check()
      })
  })

it('every reason why a packet alone can be wrong has an example', () => {
  const examples = new Set(Object.values(ALL).flatMap((packets) => packets.map(([, reason]) => reason)))
  const first = DROP_REASONS.slice(0, DROP['fragment-table-full']).map(([reason]) => reason)
  const ofThePacketAlone = [...first, 'transport-short' as const]
  expect(ofThePacketAlone.filter((reason) => !examples.has(reason))).toEqual([])
})

describe('odd, but right', () => {
  const options = (...bytes: number[]) => ({ ip: { options: Uint8Array.from(bytes) } })
  const tcpOptions = (...bytes: number[]) => ({ tcp: { options: Uint8Array.from(bytes) } })
  const to = (port: number) => `${SERVER}:${port}`
  const packets = [
    ['no options but padding', udp(`${HOST}:1`, to(1), options(0, 0, 0, 0))],
    ['garbage after the end of options', udp(`${HOST}:1`, to(2), options(0, 7, 0, 255))],
    ['a record route option', udp(`${HOST}:1`, to(3), options(7, 7, 4, 0, 0, 0, 0))],
    ['40 bytes of options', udp(`${HOST}:1`, to(4), options(...Array.from({ length: 40 }, () => 1)))],
    ['a datagram without payload', udp(`${HOST}:1`, to(5))],
    ['a datagram without checksum', udp(`${HOST}:1`, to(6), { checksum: 'none', payload: 'x' })],
    ['a SYN with ECE and CWR', tcpSegment(`${HOST}:1`, to(7), 'SEW')],
    ['a SYN with URG', tcpSegment(`${HOST}:1`, to(8), 'SU')],
    ['a SYN with data', tcpSegment(`${HOST}:1`, to(9), 'S', { payload: 'early' })],
    ['a SYN with options and garbage after their end', tcpSegment(`${HOST}:1`, to(10), 'S', tcpOptions(1, 0, 9, 0))],
  ] as const
  for (const [what, spec] of packets)
    it(what, () => {
      expect(gateway.fate(LAN, spec)).toBe('sent')
    })

  it('a frame with padding behind the packet, which does not go on', () => {
    const padded = new Uint8Array(60)
    padded.set(frame({ eth: { src: MAC.host, dst: MAC.lan }, ...udp(`${HOST}:1`, to(11)) }))
    const [sent] = gateway.inside(padded)
    expect(sent).toHaveLength(14 + 28)
  })
})
