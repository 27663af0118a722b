// `natloom expect -L` and `natloom helper`: their text, and their error for a wrong command line.

import { describe, expect, it } from 'vitest'
import type { Expectation, Helper } from '../../src/control/api-client.ts'
import { expectationText } from '../../src/control/expect-command.ts'
import { helperText } from '../../src/control/helper-command.ts'
import { natloom } from './command.ts'

const FTP: Expectation = {
  protocol: 6,
  origin: 'outside',
  timeout: 297,
  source: '192.0.2.7',
  sourcePort: 0,
  destination: '203.0.113.1',
  destinationPort: 40_000,
  announced: { address: '10.0.0.5', port: 5001 },
  owner: 3,
  helper: 'ftp',
  permanent: false,
  inactive: false,
  reserved: true,
  master: {
    shard: 1,
    row: 7,
    original: { source: '10.0.0.5', destination: '192.0.2.7', sourcePort: 5000, destinationPort: 21 },
  },
}

describe('an expectation as /proc/net/nf_conntrack_expect writes it, and what natloom adds', () => {
  const MASTER = 'master=10.0.0.5:5000>192.0.2.7:21 shard=1 announced=10.0.0.5:5001'
  const written: readonly (readonly [Partial<Expectation>, string])[] = [
    [{}, `297 l3proto = 2 proto=6 src=192.0.2.7 dst=203.0.113.1 sport=0 dport=40000 ftp ${MASTER} owner=3`],
    [
      { protocol: 17, source: '0.0.0.0/0', sourcePort: 5060, owner: null, helper: 'sip', class: 'audio' },
      `297 l3proto = 2 proto=17 src=0.0.0.0 dst=203.0.113.1 sport=5060 dport=40000 sip/audio ${MASTER}`,
    ],
    [
      { permanent: true, inactive: true, childHelper: 'sip' },
      '297 l3proto = 2 proto=6 src=192.0.2.7 dst=203.0.113.1 sport=0 dport=40000 PERMANENT,INACTIVE ftp ' +
        `${MASTER} owner=3 helper=sip`,
    ],
  ]
  for (const [more, text] of written)
    it(JSON.stringify(more), () => expect(expectationText({ ...FTP, ...more })).toBe(text))
})

describe('a helper in words', () => {
  const helper: Helper = {
    name: 'ftp',
    id: 1,
    module: 'ftp',
    protocol: 'tcp',
    ports: [21],
    servers: [],
    options: {},
    onFailure: 'reset',
    classes: [{ name: 'default', maxExpected: 1, timeoutSeconds: 300 }],
    state: 'in force',
  }
  const written: readonly (readonly [Partial<Helper>, string])[] = [
    [{}, 'ftp: tcp port 21 of any server, 1 expected at a time, for 300 s'],
    [
      { ports: [21, 2121], servers: ['192.0.2.0/24', '198.51.100.7'], options: { loose: true } },
      'ftp: tcp port 21, 2121 of 192.0.2.0/24, 198.51.100.7, 1 expected at a time, for 300 s, options {"loose":true}',
    ],
    [
      {
        name: 'calls',
        module: '/opt/calls.js',
        protocol: 'udp',
        ports: [],
        classes: [
          { name: 'signalling', maxExpected: 1, timeoutSeconds: 180 },
          { name: 'audio', maxExpected: 4, timeoutSeconds: 180 },
        ],
      },
      'calls: udp every port of any server, signalling: 1 expected at a time, for 180 s, ' +
        'audio: 4 expected at a time, for 180 s, from /opt/calls.js',
    ],
  ]
  for (const [more, text] of written) it(text, () => expect(helperText({ ...helper, ...more })).toBe(text))
})

describe('the command line', () => {
  const cases: readonly (readonly [readonly string[], number, string])[] = [
    [['expect', '--socket', '/nowhere/api.sock'], 3, 'no gateway runs here'],
    [['expect', '-L', '-o', 'xml'], 2, 'Allowed choices are text, json'],
    [['expect', '-L', '--socket', '/nowhere/api.sock'], 3, 'no gateway runs here'],
    [['helper', 'list', '--socket', '/nowhere/api.sock'], 3, 'no gateway runs here'],
    [['helper', 'load'], 2, "missing required argument 'module'"],
    [['helper', 'load', './x.js', '--socket', '/nowhere/api.sock'], 2, "/x.js can't be loaded: there is no such file"],
    [['helper', 'load', 'irc', '--socket', '/nowhere/api.sock'], 3, 'no gateway runs here'],
    [['helper', 'unload', 'ftp', '--socket', '/nowhere/api.sock'], 3, 'no gateway runs here'],
    [['helper', 'reload'], 2, "unknown command 'reload'"],
  ]
  for (const [args, exitCode, says] of cases)
    it(`${args.join(' ')} ends with ${exitCode}`, () => {
      const { status, stderr } = natloom(args)
      expect(stderr).toContain(says)
      expect(status).toBe(exitCode)
    })
})
