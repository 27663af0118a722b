// What a program may send to `POST /helpers`, and what it is told otherwise.

import { describe, expect, it } from 'vitest'
import { helperRequest } from '../../../src/coordinator/api/api-requests.ts'

describe('a request for a helper', () => {
  const right = [
    { module: 'ftp' },
    { module: '/srv/parcel.js', ports: [7777, 65535], servers: ['192.0.2.1', '198.51.100.0/24'] },
    { module: 'irc', ports: [], servers: [], options: { channels: ['#a'], deep: { er: null } } },
  ]
  for (const request of right)
    it(`${JSON.stringify(request)} is taken as it is`, () => {
      expect(helperRequest(JSON.stringify(request))).toEqual(request)
    })

  const MODULE = 'module: one of ftp, irc, tftp, or the absolute path of a module'
  const PORTS = 'ports: a list of numbers from 1 to 65535'
  const SERVERS = 'servers: a list of addresses and prefixes'
  const OBJECT = 'the body must be a JSON object'
  const wrong = [
    ['', OBJECT],
    ['ftp', OBJECT],
    ['"ftp"', OBJECT],
    ['null', OBJECT],
    ['["ftp"]', OBJECT],
    ['{}', MODULE],
    ['{"module":["ftp"]}', MODULE],
    ['{"module":"sip"}', MODULE],
    ['{"module":"./parcel.js"}', MODULE],
    ['{"module":"ftp","ports":21}', PORTS],
    ['{"module":"ftp","ports":[21,0]}', PORTS],
    ['{"module":"ftp","ports":[65536]}', PORTS],
    ['{"module":"ftp","ports":[2.5]}', PORTS],
    ['{"module":"ftp","ports":["21"]}', PORTS],
    ['{"module":"ftp","servers":"192.0.2.1"}', SERVERS],
    ['{"module":"ftp","servers":["192.0.2.1","192.0.2.0/33"]}', SERVERS],
    ['{"module":"ftp","servers":[1]}', SERVERS],
    ['{"module":"ftp","options":[]}', 'options: an object'],
    ['{"module":"ftp","options":"passive"}', 'options: an object'],
    ['{"module":"ftp","port":21}', 'port: no such field: module, ports, servers, options, onFailure'],
  ] as const
  for (const [text, message] of wrong)
    it(`${text || 'nothing'}: ${message}`, () => {
      expect(() => helperRequest(text)).toThrow(expect.objectContaining({ status: 400, code: 'API_REQUEST', message }))
    })
})
