// What hosts lose themselves, read from the kernel's text; from a real host, see host-losses.host.test.ts.

import { describe, expect, it } from 'vitest'
import { readHostLosses } from '../../../src/lab/world/host-losses.ts'

describe('the counters of a host', () => {
  it('are read from its tables, by name and by column', () => {
    const text = [
      'Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors',
      'Udp: 123456789 2 9 123456789 7 1',
      'UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors',
      'UdpLite: 0 0 0 0 3 0',
      'Inter-|   Receive                                                |  Transmit',
      ' face |bytes    packets errs drop fifo frame compressed multicast|' +
        'bytes    packets errs drop fifo colls carrier compressed',
      '    lo:       0       0    0    0    0     0          0         0' +
        '        0       0    0    0    0     0       0          0',
      '  eth0:1234567     123    0    4    0     0          0         0' +
        '     4321      21    0    5    0     0       0          0',
      '  wan0:      1       1    0    0    0     0          0         0' +
        '        1       1    0    6    0     0       0          0',
    ].join('\n')
    expect(readHostLosses(text)).toEqual({ sockets: 7, links: 11 })
  })

  it('must be there: other text is refused', () => {
    expect(() => readHostLosses('')).toThrow('no counters')
  })
})
