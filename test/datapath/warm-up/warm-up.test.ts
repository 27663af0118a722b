// A shard that was warmed up is, in all that can be seen, one that was not: the same memory, and the same answers to
// the same packets. And the warm-up goes where it should: a packet that it loses warms nothing.

import { describe, expect, it } from 'vitest'
import type { ShardMemory, Warmed } from '../../../src/datapath/shard-contract.ts'
import type { HelperEntry } from '../../../src/helpers/load.ts'
import { DEFAULT_NAT } from '../../../src/nat/settings.ts'
import { parsePrefix } from '../../../src/wire/address.ts'
import { Gateway, type GatewayOptions } from '../gateway.ts'
import { HOST, LAN, SERVER } from '../network.ts'
import { echo, tcpSegment, udp } from '../packets.ts'

const FTP: HelperEntry = {
  id: 1,
  name: 'ftp',
  module: 'ftp',
  options: {},
  bindings: [{ tuple: { proto: 'tcp', dstPort: 21 }, mask: undefined }],
  onFailure: 'reset',
  load: 1,
}
/** Would throw if it were imported. */
const USERS: HelperEntry = { ...FTP, id: 2, name: 'own', module: '/nowhere/own.mjs', load: 2 }

const ROUNDS = 3
/** So many rounds last longer in the warm-up's own time than it takes to save up for ICMP errors anew. */
const LONG = 200
const ALL = parsePrefix('0.0.0.0/0')
const DENY_ALL = [
  {
    allows: false,
    isLiberal: false,
    openedFrom: null,
    related: null,
    protocol: null,
    inside: ALL,
    remote: ALL,
    ports: null,
  },
]
/** What each round sends: 5 of UDP, 8 and 4 of TCP, 2 of ICMP; with FTP 3 + 4 + 2 more. */
const SENT = 19
const SENT_WITH_FTP = 28

async function warmed(options: GatewayOptions = {}): Promise<{ gateway: Gateway; seen: Warmed[] }> {
  const seen: Warmed[] = []
  const warmUp = (after: Warmed) => seen.push(after) < ROUNDS
  return { gateway: await Gateway.start({ ...options, warmUp }), seen }
}

const BUFFERS = ['tables', 'externals', 'fib', 'handover', 'expectations', 'helperList'] as const

/** Where the first byte differs, by buffer. */
function differences(one: ShardMemory, other: ShardMemory): string[] {
  return BUFFERS.flatMap((name) => {
    const [a, b] = [Buffer.from(one[name]), Buffer.from(other[name])]
    if (a.equals(b)) return []
    return [`${name} at ${a.findIndex((byte, at) => byte !== b[at])} of ${a.length}`]
  })
}

/** Packets of all kinds, and what left the gateway for each. */
function played(gateway: Gateway): unknown[] {
  const sent = [
    gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`)),
    gateway.inside(tcpSegment(`${HOST}:5001`, `${SERVER}:80`, 'S')),
    gateway.inside(echo(HOST, SERVER, 7)),
    gateway.inside(udp(`10.0.0.6:5000`, `${SERVER}:53`)),
    gateway.outside(tcpSegment(`${SERVER}:80`, '203.0.113.1:80', 'S')),
  ]
  gateway.pass(90)
  sent.push(gateway.inside(udp(`${HOST}:5002`, `${SERVER}:53`)), gateway.inside(udp(`${HOST}:5000`, `${SERVER}:53`)))
  return [...sent, gateway.drops()]
}

describe('a warm-up', () => {
  it('goes where first packets go, and loses none', async () => {
    const { seen } = await warmed()
    expect(seen).toEqual(
      [1, 2, 3].map((rounds) => ({ rounds, sent: rounds * SENT, dropped: 0, rewritten: 0, expected: 0 })),
    )
  })

  it('holds a control connection of FTP, if that helper is in force, and not with helpers of users', async () => {
    const { seen } = await warmed({ helpers: [FTP, USERS] })
    expect(seen.at(-1)).toEqual({
      rounds: ROUNDS,
      sent: ROUNDS * SENT_WITH_FTP,
      dropped: 0,
      rewritten: ROUNDS,
      expected: ROUNDS,
    })
  })

  const configurations: readonly (readonly [string, GatewayOptions])[] = [
    ['the defaults', {}],
    ['FTP', { helpers: [FTP] }],
    ['a pool', { pool: ['198.51.100.1', '198.51.100.2'] }],
    [
      'mapping and filtering by address and port',
      {
        nat: { ...DEFAULT_NAT, mapping: 'address-and-port-dependent', filtering: 'address-and-port-dependent' },
      },
    ],
    ['a table of few connections', { connections: 64 }],
  ]
  for (const [what, options] of configurations)
    it(`leaves all memory as it was, with ${what}`, async () => {
      const fresh = await Gateway.start(options)
      const { gateway } = await warmed(options)
      expect(differences(gateway.memory, fresh.memory)).toEqual([])
      gateway.check()
    })

  it('changes nothing of what the shard then does', async () => {
    const fresh = await Gateway.start({ helpers: [FTP] })
    const expected = played(fresh)
    const { gateway } = await warmed({ helpers: [FTP] })
    expect(played(gateway)).toEqual(expected)
    expect(differences(gateway.memory, fresh.memory)).toEqual([])
  })

  it('of any length leaves the right to say ICMP errors, from the first packet on', async () => {
    const gateway = await Gateway.start({
      filter: DENY_ALL,
      icmpErrorsPerSecond: 500,
      warmUp: ({ rounds }) => rounds < LONG,
    })
    expect(gateway.fate(LAN, udp(`${HOST}:5000`, `${SERVER}:53`))).toBe('filter-denied')
    expect(gateway.toLan()).toHaveLength(1)
    expect(gateway.counter('icmpErrorsSuppressed')).toBe(0)
  })

  it('loads no helper into the shard', async () => {
    const { gateway } = await warmed({ helpers: [FTP] })
    const { helperById } = await import('../../../src/helpers/registry.shard.ts')
    expect(helperById(FTP.id)).toBeUndefined()
    gateway.check()
  })
})
