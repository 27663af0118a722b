// Malformed packets of every kind, as a sender inside might send them: what is wrong, the reason they are dropped for,
// and the bytes. Header checksums are right unless they are what is wrong.

import type { DropReasonName } from '../../../src/counters/drop-reasons.ts'
import { type FrameSpec, frame } from '../../../src/testing/builder.ts'
import * as ipv4 from '../../../src/wire/ipv4.ts'
import { HOST, MAC, SERVER } from '../network.ts'
import { echo, tcpSegment, udp, viewOf } from '../packets.ts'

const IP = 14
const L4 = 34
const FROM = `${HOST}:5000`
const TO = `${SERVER}:6000`

export type Malformed = readonly [what: string, reason: DropReasonName, bytes: Uint8Array]

const built = (spec: FrameSpec): Uint8Array => frame({ eth: { src: MAC.host, dst: MAC.lan }, ...spec })

/** The frame with something changed, and the IPv4 header's checksum with it. */
function but(spec: FrameSpec, change: (mem: DataView, bytes: Uint8Array) => void): Uint8Array {
  const bytes = built(spec)
  const mem = viewOf(bytes)
  change(mem, bytes)
  if (ipv4.headerLen(mem, IP) <= bytes.length - IP) ipv4.writeChecksum(mem, IP)
  return bytes
}

/** The frame cut off after `length` bytes from the IPv4 header on, its total length told so. */
const cut = (spec: FrameSpec, length: number): Uint8Array =>
  but(spec, (mem) => ipv4.setTotalLength(mem, IP, length)).slice(0, IP + length)

const flip = (at: number) => (mem: DataView) => mem.setUint8(at, mem.getUint8(at) ^ 1)
const withOptions = (...bytes: number[]) => udp(FROM, TO, { ip: { options: Uint8Array.from(bytes) }, payload: 'data' })
const from = (address: string): Uint8Array => built(udp(`${address}:5000`, TO))

const packet = udp(FROM, TO, { payload: 'payload' })

export const MALFORMED_IP: readonly Malformed[] = [
  ['no bytes at all', 'frame-short', new Uint8Array(0)],
  ['an Ethernet header without its last byte', 'frame-short', built(packet).slice(0, 13)],
  ['nothing after the Ethernet header', 'ip-short', built(packet).slice(0, 14)],
  ['19 bytes of an IPv4 header', 'ip-short', built(packet).slice(0, 33)],
  ['version 6 in an IPv4 frame', 'ip-version', but(packet, (mem) => mem.setUint8(IP, 0x65))],
  ['version 0', 'ip-version', but(packet, (mem) => mem.setUint8(IP, 0x05))],
  ['a header length of 0', 'ip-header-length', but(packet, (mem) => mem.setUint8(IP, 0x40))],
  ['a header length of 16', 'ip-header-length', but(packet, (mem) => mem.setUint8(IP, 0x44))],
  ['a header longer than the frame', 'ip-header-length', but(packet, (mem) => mem.setUint8(IP, 0x4f))],
  ['a total length of 0', 'ip-total-length', but(packet, (mem) => ipv4.setTotalLength(mem, IP, 0))],
  ['a total length below the header', 'ip-total-length', but(packet, (mem) => ipv4.setTotalLength(mem, IP, 19))],
  [
    'a total length within the options',
    'ip-total-length',
    but(withOptions(1, 1, 1, 1), (mem) => ipv4.setTotalLength(mem, IP, 23)),
  ],
  ['a total length beyond the frame', 'ip-total-length', but(packet, (mem) => ipv4.setTotalLength(mem, IP, 36))],
  ['a cut-off frame', 'ip-total-length', built(packet).slice(0, -1)],
  ['a header checksum off by one', 'ip-checksum', edited(built(packet), flip(IP + 11))],
  ['a header checksum of 0', 'ip-checksum', edited(built(packet), (mem) => mem.setUint16(IP + 10, 0))],
  ['a header changed after its checksum', 'ip-checksum', edited(built(packet), flip(IP + 8))],
  ['options changed after the checksum', 'ip-checksum', edited(built(withOptions(1, 1, 1, 1)), flip(L4))],
  ['an option of length 0', 'ip-options', built(withOptions(7, 0, 0, 0))],
  ['an option of length 1', 'ip-options', built(withOptions(7, 1, 0, 0))],
  ['an option beyond the header', 'ip-options', built(withOptions(7, 5, 0, 0))],
  ['an option kind without a length', 'ip-options', built(withOptions(1, 1, 1, 7))],
  ['garbage after a whole option', 'ip-options', built(withOptions(7, 3, 4, 0x94))],
  ['loose source routing', 'ip-options', built(withOptions(0x83, 7, 4, 192, 0, 2, 9))],
  ['strict source routing', 'ip-options', built(withOptions(1, 0x89, 7, 4, 192, 0, 2, 9))],
  ['from 0.0.0.0', 'ip-source', from('0.0.0.0')],
  ['from "this network"', 'ip-source', from('0.1.2.3')],
  ['from loopback', 'ip-source', from('127.0.0.1')],
  ['from a multicast group', 'ip-source', from('224.0.0.251')],
  ['from class E', 'ip-source', from('240.0.0.1')],
  ['from everybody', 'ip-source', from('255.255.255.255')],
  ['from a network that is elsewhere', 'martian-source', from('198.51.100.5')],
  ["from the LAN's broadcast address", 'martian-source', from('10.0.0.255')],
  ["from the gateway's own address", 'martian-source', from('10.0.0.1')],
]

function edited(bytes: Uint8Array, change: (mem: DataView) => void): Uint8Array {
  change(viewOf(bytes))
  return bytes
}

const syn = tcpSegment(FROM, TO, 'S')
const tcpOptions = (...bytes: number[]) =>
  built(tcpSegment(FROM, TO, 'S', { tcp: { options: Uint8Array.from(bytes) } }))
const flags = (letters: string): Uint8Array => built(tcpSegment(FROM, TO, letters))
const ping = echo(HOST, SERVER, 7, { payload: 'payload' })

export const MALFORMED_TCP: readonly Malformed[] = [
  ['no byte of TCP', 'tcp-short', cut(syn, 20)],
  ['19 bytes of TCP', 'tcp-short', cut(syn, 39)],
  ['a data offset of 0', 'tcp-data-offset', but(syn, (mem) => mem.setUint8(L4 + 12, 0x00))],
  ['a data offset of 16', 'tcp-data-offset', but(syn, (mem) => mem.setUint8(L4 + 12, 0x40))],
  ['a data offset beyond the packet', 'tcp-data-offset', but(syn, (mem) => mem.setUint8(L4 + 12, 0x60))],
  ['an option of length 0', 'tcp-options', tcpOptions(2, 0, 0, 0)],
  ['an option of length 1', 'tcp-options', tcpOptions(2, 1, 5, 0xb4)],
  ['an option beyond the header', 'tcp-options', tcpOptions(2, 4, 5, 0xb4, 8, 10, 0, 0)],
  ['an option kind without a length', 'tcp-options', tcpOptions(1, 1, 1, 8)],
  ['no flags at all', 'tcp-flags', flags('')],
  ['PSH alone', 'tcp-flags', flags('P')],
  ['URG alone', 'tcp-flags', flags('U')],
  ['FIN without ACK', 'tcp-flags', flags('F')],
  ['SYN and FIN', 'tcp-flags', flags('SF')],
  ['SYN and RST', 'tcp-flags', flags('SR')],
  ['SYN, FIN and ACK', 'tcp-flags', flags('SFA')],
  ['FIN and RST', 'tcp-flags', flags('FRA')],
  ['RST and URG', 'tcp-flags', flags('RU')],
  ['FIN, PSH and URG (Xmas)', 'tcp-flags', flags('FPU')],
  ['all flags', 'tcp-flags', flags('FSRPAU')],
  ['a SYN with a wrong checksum', 'tcp-checksum', edited(built(syn), flip(L4 + 16))],
  ['a SYN with other data than its checksum says', 'tcp-checksum', edited(built(syn), flip(L4 + 4))],
  ['source port 0', 'port-zero', built(tcpSegment(`${HOST}:0`, TO, 'S'))],
  ['destination port 0', 'port-zero', built(tcpSegment(FROM, `${SERVER}:0`, 'S'))],
]

export const MALFORMED_UDP: readonly Malformed[] = [
  ['no byte of UDP', 'udp-short', cut(packet, 20)],
  ['7 bytes of UDP', 'udp-short', cut(packet, 27)],
  ['a length of 0', 'udp-length', but(packet, (mem) => mem.setUint16(L4 + 4, 0))],
  ['a length of 7', 'udp-length', but(packet, (mem) => mem.setUint16(L4 + 4, 7))],
  ['a length beyond the packet', 'udp-length', but(packet, (mem) => mem.setUint16(L4 + 4, 16))],
  ['a wrong checksum', 'udp-checksum', edited(built(packet), flip(L4 + 7))],
  ['another payload than the checksum says', 'udp-checksum', edited(built(packet), flip(L4 + 8))],
  ['source port 0', 'port-zero', built(udp(`${HOST}:0`, TO))],
  ['destination port 0', 'port-zero', built(udp(FROM, `${SERVER}:0`))],
]

const [UDPLITE, DCCP] = [136, 33]
const portless = (number: number, length: number): Uint8Array =>
  built({ ip: { src: HOST, dst: SERVER }, protocol: { number }, payload: new Uint8Array(length) })

export const MALFORMED_PORTLESS: readonly Malformed[] = [
  ['no byte of UDP-Lite', 'transport-short', portless(UDPLITE, 0)],
  ['7 bytes of UDP-Lite', 'transport-short', portless(UDPLITE, 7)],
  ['no byte of DCCP', 'transport-short', portless(DCCP, 0)],
  ['7 bytes of DCCP', 'transport-short', portless(DCCP, 7)],
]

const error = (embedded: Uint8Array): Uint8Array =>
  built({ ip: { src: HOST, dst: SERVER }, icmp: { type: 3, code: 3, embedded } })
const cause = built(udp(`${SERVER}:6000`, FROM)).subarray(IP)
const embeddedBut = (change: (mem: DataView) => void): Uint8Array => error(edited(cause.slice(), change))

export const MALFORMED_ICMP: readonly Malformed[] = [
  ['no byte of ICMP', 'icmp-short', cut(ping, 20)],
  ['7 bytes of ICMP', 'icmp-short', cut(ping, 27)],
  ['a wrong checksum', 'icmp-checksum', edited(built(ping), flip(L4 + 3))],
  ['another payload than the checksum says', 'icmp-checksum', edited(built(ping), flip(L4 + 8))],
  ['a router advertisement', 'icmp-type', built(echo(HOST, SERVER, 7, { type: 9 }))],
  ['a type that nobody knows', 'icmp-type', built(echo(HOST, SERVER, 7, { type: 40 }))],
  ['type 255', 'icmp-type', built(echo(HOST, SERVER, 7, { type: 255 }))],
  ['an answer to no query', 'icmp-no-query', built(echo(HOST, SERVER, 7, { type: 0 }))],
  ['an error that embeds nothing', 'icmp-embedded', error(new Uint8Array(0))],
  ['an error that embeds 19 bytes', 'icmp-embedded', error(cause.subarray(0, 19))],
  ['an error that embeds 7 bytes of UDP', 'icmp-embedded', error(cause.subarray(0, 27))],
  ['an error that embeds version 6', 'icmp-embedded', embeddedBut((mem) => mem.setUint8(0, 0x65))],
  ['an error that embeds a header of 16 bytes', 'icmp-embedded', embeddedBut((mem) => mem.setUint8(0, 0x44))],
  ['an error that embeds a header beyond its end', 'icmp-embedded', embeddedBut((mem) => mem.setUint8(0, 0x4f))],
  ['an error that embeds a later fragment', 'icmp-embedded', embeddedBut((mem) => mem.setUint16(6, 185))],
  ['an error about an error', 'icmp-embedded', error(built(echo(SERVER, HOST, 0, { type: 3 })).subarray(IP))],
  ['an error about no packet of ours', 'icmp-error-unrelated', error(cause)],
]

const piece = (bytes: number, offset: number, more: boolean, protocol = 17): Uint8Array =>
  built({
    ip: { src: HOST, dst: SERVER, id: 77, fragmentOffset: offset, moreFragments: more },
    protocol: { number: protocol },
    payload: new Uint8Array(bytes).fill(1),
  })

export const MALFORMED_FRAGMENTS: readonly Malformed[] = [
  ['a first fragment without payload', 'fragment-length', piece(0, 0, true)],
  ['a last fragment without payload', 'fragment-length', piece(0, 1480, false)],
  ['more to come after 12 bytes', 'fragment-length', piece(12, 0, true)],
  ['more to come after 1001 bytes', 'fragment-length', piece(1001, 1480, true)],
  ['an end beyond 65535', 'fragment-length', piece(100, 65_504, false)],
  ['an end that leaves no room for a header', 'fragment-length', piece(16, 65_504, false)],
  ['a first fragment with half a TCP header', 'fragment-tiny', piece(8, 0, true, 6)],
  ['a first fragment without all TCP options', 'fragment-tiny', edited(piece(24, 0, true, 6), tcpOffset(0x70))],
  ['a first fragment with a bad data offset', 'tcp-data-offset', edited(piece(24, 0, true, 6), tcpOffset(0x40))],
  ['a later fragment of a datagram whose first one was refused', 'fragment-orphan', piece(64, 1480, true, 6)],
  ['a last fragment of such a datagram', 'fragment-orphan', piece(64, 1480, false, 6)],
  ['a fragment over the TCP flags (RFC 3128)', 'fragment-overlap', piece(64, 8, false, 6)],
  ['a fragment over the TCP checksum', 'fragment-overlap', piece(64, 16, true, 6)],
  ['an error in fragments', 'icmp-embedded', built({ ...fragmentedError(), payload: new Uint8Array(8) })],
]

function tcpOffset(value: number): (mem: DataView) => void {
  return (mem) => mem.setUint8(L4 + 12, value)
}

function fragmentedError(): FrameSpec {
  return { ip: { src: HOST, dst: SERVER, moreFragments: true }, icmp: { type: 3, code: 3 } }
}
