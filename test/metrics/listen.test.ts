import { describe, expect, it } from 'vitest'
import { parseListen } from '../../src/metrics/listen.ts'

describe('where to listen', () => {
  const addresses = [
    ['127.0.0.1:9464', { host: '127.0.0.1', port: 9464 }],
    ['0.0.0.0:0', { host: '0.0.0.0', port: 0 }],
    ['[::1]:65535', { host: '::1', port: 65535 }],
  ] as const
  for (const [text, address] of addresses)
    it(`${text} is an address and a port`, () => {
      expect(parseListen(text)).toEqual(address)
    })

  const refused = ['', '9464', ':9464', '127.0.0.1', '127.0.0.1:', '127.0.0.1:65536', '127.0.0.1:-1', '127.0.0.256:1']
  for (const text of [...refused, '::1:9464', '[127.0.0.1]:1', '[::1]', 'localhost:9464', '127.0.0.1:1e3'])
    it(`${JSON.stringify(text)} is refused`, () => {
      expect(parseListen(text)).toBeUndefined()
    })
})
