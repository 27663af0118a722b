// What hosts lose themselves, read from where the kernel counts it.

import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hostLosses, readHostLosses } from '../../../src/lab/world/host-losses.ts'
import { Namespace } from '../../../src/lab/world/namespace.ts'

describe('the counters of a host', () => {
  it('are read from its tables, by name and by column', () => {
    const text = [
      'Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors',
      'Udp: 123456789 2 9 123456789 7 1',
      'UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors',
      'UdpLite: 0 0 0 0 3 0',
      'Inter-|   Receive                                                |  Transmit',
      ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed',
      '    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0',
      '  eth0:1234567     123    0    4    0     0          0         0     4321      21    0    5    0     0       0          0',
      '  wan0:      1       1    0    0    0     0          0         0        1       1    0    6    0     0       0          0',
    ].join('\n')
    expect(readHostLosses(text)).toEqual({ sockets: 7, links: 11 })
  })

  it('are nothing to guess', () => {
    expect(() => readHostLosses('')).toThrow('no counters')
  })
})

describe('a host', () => {
  let host: Namespace
  beforeAll(() => {
    host = Namespace.create(`nlt-losses-${process.pid}`)
  })
  afterAll(() => host.delete())

  it('counts what came to a socket whose program does not read', async () => {
    expect(hostLosses([host])).toEqual({ sockets: 0, links: 0 })
    const program = host.spawn(process.execPath, ['--input-type=module', '--eval', FULL], { stdio: 'inherit' })
    expect(await once(program, 'exit')).toEqual([0, null])
    expect(hostLosses([host, host]).sockets).toBeGreaterThanOrEqual(2)
  })
})

/** Sends to itself, in one go, more than a socket holds (net.core.rmem_default), and ends without a turn to read. */
const FULL = `
  import { createSocket } from 'node:dgram'
  import { once } from 'node:events'
  const [to, from] = [createSocket('udp4'), createSocket('udp4')]
  to.bind(9, '127.0.0.1')
  await once(to, 'listening')
  from.connect(9, '127.0.0.1')
  await once(from, 'connect')
  to.setRecvBufferSize(4096)
  for (let i = 0; i < 200; i++) from.send(Buffer.alloc(1000))
  process.exit()
`
