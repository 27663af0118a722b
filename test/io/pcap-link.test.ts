import { describe, expect, it } from 'vitest'
import { ipv4In, isSupported } from '../../src/io/pcap-link.ts'

const packet = Buffer.from('45000014000000004011000000000000000000', 'hex')
const after = (hex: string): Buffer => Buffer.concat([Buffer.from(hex.replaceAll(' ', ''), 'hex'), packet])
const MACS = '020000000001 020000000002'

describe('where the IPv4 packet begins', () => {
  it.each([
    // link                       number  what stands before it
    ['Ethernet', 1, `${MACS} 0800`],
    ['Ethernet with a VLAN tag', 1, `${MACS} 8100 0007 0800`],
    ['Ethernet with two', 1, `${MACS} 88a8 0007 8100 0008 0800`],
    ['raw IP', 101, ''],
    ['raw IP, old numbers', 12, ''],
    ['raw IP, old numbers', 14, ''],
    ['IPv4', 228, ''],
    ['Linux cooked', 113, '0000 0001 0006 0200000000010000 0800'],
    ['Linux cooked with a tag', 113, '0000 0001 0006 0200000000010000 8100 0007 0800'],
    ['Linux cooked, version 2', 276, '0800 0000 00000002 0001 00 06 0200000000010000'],
    ['Linux cooked, version 2, with a tag', 276, '8100 0000 00000002 0001 00 06 0200000000010000 0007 0800'],
    ['BSD null of a little-endian host', 0, '02000000'],
    ['BSD null of a big-endian host', 0, '00000002'],
    ['BSD loop', 108, '00000002'],
  ])('%s (%i)', (_, link, before) => {
    const frame = after(before)
    const at = ipv4In(link, frame)
    expect(at).toBe(frame.length - packet.length)
    expect(isSupported(link)).toBe(true)
  })
})

describe('why a frame is passed over', () => {
  const ipv6 = '60000000'
  it.each([
    ['IPv6 on Ethernet', 1, `${MACS} 86dd ${ipv6}`, 'ipv6'],
    ['IPv6 behind a tag', 1, `${MACS} 8100 0001 86dd ${ipv6}`, 'ipv6'],
    ['IPv6, raw', 101, ipv6, 'ipv6'],
    ['IPv6, raw by number', 229, ipv6, 'ipv6'],
    ['IPv6, cooked', 113, '0000 0001 0006 0200000000010000 86dd', 'ipv6'],
    ['IPv6, cooked, version 2', 276, '86dd 0000 00000002 0001 00 06 0200000000010000', 'ipv6'],
    ['IPv6 of FreeBSD', 0, '1c000000', 'ipv6'],
    ['IPv6 of macOS', 0, '1e000000', 'ipv6'],
    ['ARP', 1, `${MACS} 0806`, 'arp'],
    ['another protocol', 1, `${MACS} 88cc`, 'not-ip'],
    ['a length, as of 802.3', 1, `${MACS} 0026`, 'not-ip'],
    ['another family', 0, '07000000', 'not-ip'],
    ['802.11', 105, MACS, 'link'],
  ])('%s', (_, link, frame, reason) => {
    expect(ipv4In(link, Buffer.from(frame.replaceAll(' ', ''), 'hex'))).toBe(reason)
  })

  it.each([1, 113, 276, 0, 108, 101])('link %i: cut short anywhere', (link) => {
    const whole = { 1: `${MACS} 0800`, 113: '0000 0001 0006 0200000000010000 0800', 276: `0800${'00'.repeat(18)}` }[
      link
    ]
    const frame = Buffer.from((whole ?? '02000000').replaceAll(' ', ''), 'hex')
    for (let length = 0; length < (link === 101 ? 1 : frame.length); length++)
      expect(ipv4In(link, frame.subarray(0, length))).toBe('short')
  })
})
