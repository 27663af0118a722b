// Which requests of TFTP make the server expected.

import { describe, expect, it } from 'vitest'
import { tftp } from '../../src/helpers/tftp.ts'
import { Script } from '../../src/testing/helper-script.ts'

describe('TFTP helper', () => {
  const requests = [
    '\0\x01pxelinux.0\0octet\0',
    '\0\x02a b/c.txt\0netascii\0',
    '\0\x01a\0OCTET\0',
    '\0\x01a\0mail\0',
    '\0\x01a\0octet\0blksize\x001428\0tsize\x000\0',
    '\0\x01a\0octet\0x\0\0',
    `\0\x01${'a'.repeat(503)}\0octet\0`,
  ]
  for (const request of requests)
    it(`expects the server after ${JSON.stringify(request.slice(0, 40))}, at the port that asked`, () => {
      const script = new Script(tftp(), { externalPort: (port) => port + 1 })
      expect(script.client(request)).toBe(request)
      expect(script.expected).toEqual([
        { from: 'server', protocol: 'udp', to: '10.0.0.5:50003', told: '203.0.113.1:50004' },
      ])
    })

  const others = [
    '',
    '\0',
    '\0\x01',
    '\0\x01a\0octet',
    '\0\x01\0octet\0',
    '\0\x01a\0binary\0',
    '\0\x01a\0octet\0blksize\0',
    '\0\x01a\0octet\0blksize\x001428',
    '\0\x01a\0octet\0\x001428\0',
    '\0\x03\0\x01data',
    '\0\x04\0\x01',
    '\0\x05\0\x01a\0',
    '\x01\x01a\0octet\0',
    'a\0\x01a\0octet\0',
    `\0\x01${'a'.repeat(504)}\0octet\0`,
  ]
  for (const datagram of others)
    it(`passes ${JSON.stringify(datagram.slice(0, 40))} and expects nothing`, () => {
      const script = new Script(tftp())
      expect(script.client(datagram)).toBe(datagram)
      expect(script.everExpected).toEqual([])
    })

  it('takes no request from a server', () => {
    const script = new Script(tftp())
    script.server('\0\x01a\0octet\0')
    expect(script.everExpected).toEqual([])
  })

  it('expects an outside client behind no NAT as well', () => {
    const script = new Script(tftp(), { inside: 'server' })
    script.client('\0\x01a\0octet\0')
    expect(script.expected).toMatchObject([{ from: 'server', to: '198.51.100.9:50003', told: '198.51.100.9:50003' }])
  })
})
