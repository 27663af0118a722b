import { describe, expect, it } from 'vitest'
import { type FrameSpec, fragments, frame } from '../../src/testing/builder.ts'
import { print } from '../../src/testing/printer.ts'
import { parseAddress, parseMac } from '../../src/wire/address.ts'
import * as arp from '../../src/wire/arp.ts'
import * as ethernet from '../../src/wire/ethernet.ts'

const ip = { src: '10.0.0.1', dst: '1.2.3.4' }
const tcp = { sport: 5000, dport: 80 }
const udp = { sport: 5000, dport: 53 }
const printed = (bytes: Uint8Array): string => print(new DataView(bytes.buffer), bytes.byteOffset, bytes.length)
const packet = (spec: FrameSpec): Uint8Array => frame(spec).subarray(14)
const options = (...bytes: number[]): Uint8Array => Uint8Array.from(bytes)

describe('the printer says', () => {
  const table: readonly (readonly [spec: FrameSpec, line: string])[] = [
    [
      { ip, tcp: { ...tcp, flags: 'S', seq: 1 } },
      'IP 10.0.0.1.5000 > 1.2.3.4.80: Flags [S], seq 1, win 64240, length 0',
    ],
    [
      {
        ip,
        tcp: {
          ...tcp,
          flags: 'SA',
          seq: -1,
          ack: 2,
          window: 65160,
          options: options(2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7),
        },
      },
      'IP 10.0.0.1.5000 > 1.2.3.4.80: Flags [S.], seq 4294967295, ack 2, win 65160, ' +
        'options [mss 1460,sackOK,TS val 1 ecr 2,nop,wscale 7], length 0',
    ],
    [
      { ip, tcp: { ...tcp, flags: 'PA', seq: 1, ack: 5, window: 512 }, payload: 'ten bytes.' },
      'IP 10.0.0.1.5000 > 1.2.3.4.80: Flags [P.], seq 1:11, ack 5, win 512, length 10',
    ],
    [
      { ip, tcp: { ...tcp, flags: 'A', seq: 1, ack: 5, options: options(1, 1, 5, 10, 0, 0, 0, 7, 0, 0, 0, 9) } },
      'IP 10.0.0.1.5000 > 1.2.3.4.80: Flags [.], ack 5, win 64240, options [nop,nop,sack 1 {7:9}], length 0',
    ],
    [{ ip, tcp: { ...tcp, flags: '' } }, 'IP 10.0.0.1.5000 > 1.2.3.4.80: Flags [none], win 64240, length 0'],
    [
      { ip, tcp: { ...tcp, options: options(200, 3, 0, 0) } },
      'IP 10.0.0.1.5000 > 1.2.3.4.80: Flags [.], ack 1, win 64240, options [unknown-200,eol], length 0',
    ],
    [
      { ip, tcp: { ...tcp, options: options(2, 9, 0, 0) } },
      'IP 10.0.0.1.5000 > 1.2.3.4.80: Flags [.], ack 1, win 64240, options [bad opt], length 0',
    ],
    [{ ip, udp, payload: 'query' }, 'IP 10.0.0.1.5000 > 1.2.3.4.53: UDP, length 5'],
    [
      { ip, icmp: { type: 8, id: 7, seq: 2 }, payload: new Uint8Array(56) },
      'IP 10.0.0.1 > 1.2.3.4: ICMP echo request, id 7, seq 2, length 64',
    ],
    [{ ip, icmp: { type: 0, id: 7, seq: 2 } }, 'IP 10.0.0.1 > 1.2.3.4: ICMP echo reply, id 7, seq 2, length 8'],
    [
      { ip, icmp: { type: 3, code: 3, embedded: packet({ ip, udp }) } },
      'IP 10.0.0.1 > 1.2.3.4: ICMP 1.2.3.4 udp port 53 unreachable, length 36',
    ],
    [
      { ip, icmp: { type: 3, code: 1, embedded: packet({ ip, udp }) } },
      'IP 10.0.0.1 > 1.2.3.4: ICMP host 1.2.3.4 unreachable, length 36',
    ],
    [
      { ip, icmp: { type: 3, code: 4, mtu: 1400, embedded: packet({ ip, udp }) } },
      'IP 10.0.0.1 > 1.2.3.4: ICMP 1.2.3.4 unreachable - need to frag (mtu 1400), length 36',
    ],
    [
      { ip, icmp: { type: 3, code: 13, embedded: packet({ ip, udp }) } },
      'IP 10.0.0.1 > 1.2.3.4: ICMP host 1.2.3.4 unreachable - admin prohibited filter, length 36',
    ],
    [
      { ip, icmp: { type: 11, embedded: packet({ ip, udp }) } },
      'IP 10.0.0.1 > 1.2.3.4: ICMP time exceeded in-transit, length 36',
    ],
    [{ ip, icmp: { type: 3 } }, 'IP 10.0.0.1 > 1.2.3.4: ICMP unreachable - #0 [|icmp], length 8'],
    [{ ip, icmp: { type: 99 } }, 'IP 10.0.0.1 > 1.2.3.4: ICMP type-#99, length 8'],
    [{ ip, protocol: { number: 47 }, payload: 'abcd' }, 'IP 10.0.0.1 > 1.2.3.4: gre 4'],
    [{ ip, protocol: { number: 200 } }, 'IP 10.0.0.1 > 1.2.3.4: ip-proto-200 0'],
  ]
  for (const [spec, line] of table) it(line, () => expect(printed(frame(spec))).toBe(line))

  it('which fragments belong together', () => {
    const whole = frame({ ip: { ...ip, id: 7 }, udp, payload: new Uint8Array(20) })
    expect(fragments(whole, 16).map(printed)).toEqual([
      'IP 10.0.0.1.5000 > 1.2.3.4.53: UDP, length 20, fragment id 7 offset 0+',
      'IP 10.0.0.1 > 1.2.3.4: udp, fragment id 7 offset 16, length 12',
    ])
  })

  it('who asks for a MAC address, and who has it', () => {
    const say = (operation: number): string => {
      const mem = new DataView(new ArrayBuffer(42))
      ethernet.setEtherType(mem, 0, ethernet.TYPE_ARP)
      arp.emit(mem, 14, {
        operation,
        senderMac: parseMac('02:00:00:00:00:0a'),
        sender: parseAddress('10.0.0.1'),
        targetMac: new Uint8Array(6),
        target: parseAddress('10.0.0.5'),
      })
      return print(mem, 0, 42)
    }
    expect(say(arp.REQUEST)).toBe('ARP, Request who-has 10.0.0.5 tell 10.0.0.1, length 28')
    expect(say(arp.REPLY)).toBe('ARP, Reply 10.0.0.1 is-at 02:00:00:00:00:0a, length 28')
    expect(say(9)).toBe('ARP, Unknown (9), length 28')
  })

  it('what it does not read further', () => {
    const say = (type: number): string => {
      const mem = new DataView(new ArrayBuffer(60))
      ethernet.setEtherType(mem, 0, type)
      return print(mem, 0, 60)
    }
    expect(say(ethernet.TYPE_IPV6)).toBe('ethertype IPv6 (0x86dd), length 60')
    expect(say(0x88cc)).toBe('ethertype 0x88cc, length 60')
  })
})

describe('what is cut short or malformed is marked', () => {
  const whole = frame({ ip, tcp: { ...tcp, flags: 'S', options: options(2, 4, 5, 0xb4) } })
  const cut = [
    [13, '[|ether]'],
    [33, 'IP [|ip]'],
    [53, 'IP 10.0.0.1 > 1.2.3.4: [|tcp]'],
    [57, 'IP 10.0.0.1.5000 > 1.2.3.4.80: Flags [S], seq 0, win 64240, options [|tcp], length 0'],
  ] as const
  for (const [length, line] of cut)
    it(`after ${length} bytes`, () => expect(printed(whole.slice(0, length))).toBe(line))

  const damaged = [
    ['version', 14, 0x55, 'IP5 [version is not 4]'],
    ['header length', 14, 0x44, 'IP bad-hlen 16'],
    ['total length', 17, 19, 'IP bad-len 19'],
    ['data offset', 46, 0x40, 'IP 10.0.0.1.5000 > 1.2.3.4.80: [bad hdr length 16]'],
  ] as const
  for (const [what, at, value, line] of damaged) it(what, () => expect(printed(whole.with(at, value))).toBe(line))

  it('UDP length', () => {
    const datagram = frame({ ip, udp }).with(39, 7)
    expect(printed(datagram)).toBe('IP 10.0.0.1.5000 > 1.2.3.4.53: UDP, bad length 7')
  })
})
