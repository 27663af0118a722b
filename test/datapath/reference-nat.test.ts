// The reference NAT itself: it must refuse what a NAT may not let through, or what it says of natloom is worth nothing.

import { beforeEach, describe, expect, it } from 'vitest'
import { cut, icmpErrorFrame, tcpFrame, udpFrame, writeHeaderChecksum } from '../fuzz/frames.ts'
import { segment } from '../oracle/script.ts'
import { INSIDE, OUTSIDE } from './reference-connections.ts'
import { ReferenceNat } from './reference-nat.ts'
import { IP, Packet, readPacket, setWord, translated } from './reference-packet.ts'

const address = (text: string): number => text.split('.').reduce((number, octet) => number * 256 + Number(octet), 0)
const HOST = address('10.0.0.5')
const SERVER = address('192.0.2.7')
const STRANGER = address('198.51.100.9')
const EXTERNAL = address('203.0.113.1')
const PORT = 17000

const NOW = 1000
let nat: ReferenceNat
beforeEach(() => {
  nat = new ReferenceNat('address-dependent')
})

const outbound = (length = 20): Uint8Array =>
  udpFrame({ side: INSIDE, src: HOST, dst: SERVER, id: 1 }, [5000, 53], length)
const inbound = (src: number, sport: number, port = PORT): Uint8Array =>
  udpFrame({ side: OUTSIDE, src, dst: EXTERNAL, id: 2 }, [sport, port], 20)

/** The frame as a NAT sends it on that translates rightly. */
function sentOut(frame: Uint8Array, port = PORT, id?: number): Uint8Array {
  const packet = read(frame)
  const { dst, dport } = packet
  return translated(packet, { src: EXTERNAL, sport: port, dst, dport }, id ?? packet.id)
}
function sentIn(frame: Uint8Array, port = 5000): Uint8Array {
  const packet = read(frame)
  return translated(packet, { src: packet.src, sport: packet.sport, dst: HOST, dport: port }, packet.id)
}
function read(frame: Uint8Array): Packet {
  const packet = readPacket(frame)
  if (packet instanceof Packet) return packet
  throw new Error(packet)
}

const out = (frame: Uint8Array, sent: Uint8Array, now = NOW) => nat.arrived(now, INSIDE, frame, [], [sent])
const into = (frame: Uint8Array, sent: Uint8Array, now = NOW) => nat.arrived(now, OUTSIDE, frame, [sent], [])
const open = (): void => expect(out(outbound(), sentOut(outbound()))).toBeUndefined()

describe('what a NAT may do', () => {
  it('a datagram out, its answer, and another remote port of the same address', () => {
    open()
    expect(into(inbound(SERVER, 53), sentIn(inbound(SERVER, 53)))).toBeUndefined()
    expect(into(inbound(SERVER, 99), sentIn(inbound(SERVER, 99)))).toBeUndefined()
  })

  it('drop anything', () => {
    expect(nat.arrived(NOW, INSIDE, outbound(), [], [])).toBeUndefined()
  })
})

describe('what it may not', () => {
  it('let a stranger in, or anybody to a port that nobody has', () => {
    open()
    expect(into(inbound(STRANGER, 53), sentIn(inbound(STRANGER, 53)))).toMatch('filtered')
    expect(into(inbound(SERVER, 53, PORT + 1), sentIn(inbound(SERVER, 53, PORT + 1)))).toMatch('no mapping')
  })

  it('let anybody in when the connection is over', () => {
    open()
    expect(into(inbound(SERVER, 53), sentIn(inbound(SERVER, 53)), NOW + 33_000)).toMatch('no mapping')
  })

  it('send to another inside endpoint, or give another port to the same one', () => {
    open()
    expect(into(inbound(SERVER, 53), sentIn(inbound(SERVER, 53), 5001))).toMatch('another inside endpoint')
    expect(out(outbound(), sentOut(outbound(), PORT + 2))).toMatch(`has ${PORT}`)
  })

  it('change a byte, or leave a checksum as it was', () => {
    const sent = sentOut(outbound())
    sent[sent.length - 1]! ^= 1
    expect(out(outbound(), sent)).toMatch('translated wrongly')
    const unsummed = sentOut(outbound())
    setWord(unsummed, IP + 26, 0x1234)
    expect(out(outbound(), unsummed)).toMatch('translated wrongly')
  })

  it('send on what is malformed, has lived too long, or comes from nowhere', () => {
    const short = outbound()
    setWord(short, IP + 24, 200)
    expect(out(short, sentOut(outbound()))).toMatch('transport length')
    const old = outbound()
    old[IP + 8] = 1
    const fresh = sentOut(outbound())
    expect(out(old, fresh)).toBeDefined()
    const martian = udpFrame({ side: INSIDE, src: STRANGER, dst: SERVER, id: 1 }, [5000, 53], 20)
    expect(out(martian, sentOut(martian))).toMatch('martian')
  })

  it('open a TCP connection by anything but a SYN, or by a SYN with a wrong checksum', () => {
    const where = { side: INSIDE, src: HOST, dst: SERVER, id: 1 } as const
    const numbers = { seq: 1000, ack: 0, edge: 0 }
    const ack = tcpFrame(where, [5000, 80], segment('c', 'A', 0), numbers, '')
    expect(out(ack, sentOut(ack))).toMatch('no SYN')
    const broken = tcpFrame(where, [5000, 80], segment('c', 'S', 0, { badChecksum: true }), numbers, '')
    expect(out(broken, sentOut(broken))).toMatch('checksum')
    const syn = tcpFrame(where, [5000, 80], segment('c', 'S', 0), numbers, '')
    expect(out(syn, sentOut(syn))).toBeUndefined()
    const beyond = tcpFrame(where, [5000, 80], segment('c', 'FA', 0), { ...numbers, seq: 900_000 }, '')
    expect(out(beyond, sentOut(beyond))).toMatch('TCP')
  })

  it('let a later fragment pass without its first, twice, or by another identification', () => {
    const [first, second] = cut(outbound(40), 32)
    expect(out(second!, sentOut(second!))).toMatch('first has not passed')
    expect(out(first!, sentOut(first!, PORT, 77))).toBeUndefined()
    expect(out(second!, sentOut(second!, PORT, 78))).toMatch('identification')
    expect(out(second!, sentOut(second!, PORT, 77))).toBeUndefined()
    expect(out(second!, sentOut(second!, PORT, 77))).toMatch('bytes the receiver has')
  })

  it('carry an ICMP error about nothing, by an inside source, or with what it quotes as it was', () => {
    open()
    const error = (by: number, quoted: Uint8Array) =>
      icmpErrorFrame({ side: OUTSIDE, src: by, dst: EXTERNAL, id: 3 }, 3, 3, quoted.slice(IP, IP + 28))
    const turned = (quoted: Uint8Array): Uint8Array => {
      const sent = icmpErrorFrame({ side: INSIDE, src: SERVER, dst: HOST, id: 3 }, 3, 3, quoted.slice(IP, IP + 28))
      sent[IP + 8] = 63
      writeHeaderChecksum(sent)
      return sent
    }
    const about = sentOut(outbound())
    expect(into(error(SERVER, about), turned(outbound()))).toBeUndefined()
    expect(into(error(HOST, about), turned(outbound()))).toMatch('martian')
    expect(into(error(SERVER, about), turned(about))).toMatch('not turned back')
    const other = sentOut(outbound(), PORT + 4)
    expect(into(error(SERVER, other), turned(outbound()))).toMatch('about no connection')
  })
})
