import { describe, expect, it } from 'vitest'
import { DEFAULT_TIMEOUTS, type Timeouts } from '../../src/conntrack/timeouts.ts'
import { loadConfig } from '../../src/control/config.ts'
import { DEFAULT_NAT } from '../../src/nat/settings.ts'
import type { Variables } from './command.ts'

const configured = (env: Variables) => loadConfig({ env: { NATLOOM_INSIDE: 'a', NATLOOM_OUTSIDE: 'b', ...env } }).config

describe('timeouts', () => {
  it("are by default what the connection table's are", () => {
    const timeouts: Timeouts = configured({}).timeouts
    expect(timeouts).toEqual(DEFAULT_TIMEOUTS)
  })

  it("are Linux's, state by state, with the preset linux", () => {
    expect(configured({ NATLOOM_TIMEOUTS: 'linux' }).timeouts).toEqual({
      tcp: {
        NONE: 0,
        SYN_SENT: 120,
        SYN_RECV: 60,
        ESTABLISHED: 432000,
        FIN_WAIT: 120,
        CLOSE_WAIT: 60,
        LAST_ACK: 30,
        TIME_WAIT: 120,
        CLOSE: 10,
        SYN_SENT2: 120,
      },
      tcpRetransmission: 300,
      tcpUnacknowledged: 300,
      tcpShortensAssured: true,
      udpUnreplied: 30,
      udpStream: 120,
      udpDns: 30,
      icmp: 30,
      generic: 600,
      greUnreplied: 30,
      greStream: 180,
      fragment: 30,
    })
  })

  const keys = [
    // variable                        what it sets                                             nothing else
    ['NATLOOM_TIMEOUTS_TCP_ESTABLISHED', { tcp: { ESTABLISHED: 77 } }],
    ['NATLOOM_TIMEOUTS_TCP_TRANSITORY', { tcp: { SYN_SENT: 77, SYN_RECV: 77, SYN_SENT2: 77 } }],
    ['NATLOOM_TIMEOUTS_TCP_CLOSING', { tcp: { FIN_WAIT: 77, CLOSE_WAIT: 77, LAST_ACK: 77, TIME_WAIT: 77, CLOSE: 77 } }],
    ['NATLOOM_TIMEOUTS_UDP', { udpUnreplied: 77, udpStream: 77 }],
    ['NATLOOM_TIMEOUTS_UDP_DNS', { udpDns: 77 }],
    ['NATLOOM_TIMEOUTS_ICMP', { icmp: 77 }],
    ['NATLOOM_TIMEOUTS_GENERIC', { generic: 77 }],
    ['NATLOOM_TIMEOUTS_GRE', { greUnreplied: 77 }],
    ['NATLOOM_TIMEOUTS_GRE_STREAM', { greStream: 77 }],
    ['NATLOOM_TIMEOUTS_FRAGMENT', { fragment: 77 }],
  ] as const
  for (const preset of ['rfc', 'linux'])
    for (const [variable, sets] of keys)
      it(`${variable} changes ${Object.keys('tcp' in sets ? sets.tcp : sets)} of ${preset} and nothing else`, () => {
        const base = configured({ NATLOOM_TIMEOUTS: preset }).timeouts
        const tcp = { ...base.tcp, ...('tcp' in sets && sets.tcp) }
        const changed = configured({ NATLOOM_TIMEOUTS: preset, [variable]: '77' }).timeouts
        expect(changed).toEqual({ ...base, ...sets, tcp })
      })
})

it("translates by default as the translation's own defaults say", () => {
  // A gateway translates; a replay alone may be told not to.
  const { translate: _, ...chosen } = DEFAULT_NAT
  expect(configured({}).nat).toMatchObject(chosen)
})
