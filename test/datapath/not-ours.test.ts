// natloom carries inside <-> outside. What is for the host itself, between inside interfaces or through a third one is
// the kernel's, which sees every frame too: it is left alone, and that is no drop.

import { beforeAll, describe, expect, it } from 'vitest'
import { UDP_SPACE } from '../../src/nat/externals.ts'
import { RESERVATION } from '../../src/nat/port-words.ts'
import { ROUTE } from '../../src/routing/fib.ts'
import { frame } from '../../src/testing/builder.ts'
import { Cluster, toNeighbour } from './cluster.ts'
import { Gateway } from './gateway.ts'
import { EXTERNAL, HOST, LAN, LAN_ADDRESS, MAC, route, SERVER, WAN } from './network.ts'
import { decode, echo, echoReply, fromOf, icmpError, printed, tcpSegment, udp } from './packets.ts'

const OTHER_HOST = '10.0.0.6'
const THIRD = '172.16.0.9'
const gre = (src: string, dst: string) => ({ ip: { src, dst }, protocol: { number: 47 }, payload: 'gre' })
const packet = (eth: { src: string; dst: string }) => frame({ eth, ...udp(`${HOST}:5000`, `${SERVER}:53`) })

function ofType(type: number, port: number): Uint8Array {
  const bytes = packet(port === LAN ? { src: MAC.host, dst: MAC.lan } : { src: MAC.server, dst: MAC.wan })
  new DataView(bytes.buffer, bytes.byteOffset).setUint16(12, type)
  return bytes
}

let gateway: Gateway
beforeAll(async () => {
  const refused = route('198.18.0.0', 15, { type: ROUTE.refused, port: -1 })
  gateway = await Gateway.start({ routes: [refused], icmpErrorsPerSecond: 10_000 })
  // Row 1 is taken: nobody's packet may go its way.
  gateway.inside(tcpSegment(`${HOST}:4000`, `${SERVER}:80`, 'S'))
})

describe('from inside, not ours', () => {
  const packets = [
    ['to the host, UDP', udp(`${HOST}:5000`, `${LAN_ADDRESS}:53`)],
    ['to the host, TCP', tcpSegment(`${HOST}:5000`, `${LAN_ADDRESS}:22`, 'S')],
    ['to the host, ICMP', echo(HOST, LAN_ADDRESS, 1)],
    ["to a port of the host's on the outside address", tcpSegment(`${HOST}:5000`, `${EXTERNAL}:22`, 'S')],
    ['to the outside address, ICMP', echo(HOST, EXTERNAL, 20_000)],
    ['to the outside address, GRE', gre(HOST, EXTERNAL)],
    ['to another inside host', udp(`${HOST}:5000`, `${OTHER_HOST}:53`)],
    ['through a third interface', udp(`${HOST}:5000`, `${THIRD}:53`)],
    ['to the subnet', udp(`${HOST}:5000`, '10.0.0.255:137')],
    ['to everybody', udp(`${HOST}:68`, '255.255.255.255:67')],
    ['to a group', udp(`${HOST}:5353`, '224.0.0.251:5353')],
    ['to a link-local address', udp(`${HOST}:5000`, '169.254.1.1:53')],
    ['to this network', udp(`${HOST}:5000`, '0.0.0.0:53')],
    ['to loopback', udp(`${HOST}:5000`, '127.0.0.1:53')],
    ['to another MAC address', packet({ src: MAC.host, dst: '02:00:00:00:01:99' })],
    ['to the broadcast MAC address', packet({ src: MAC.host, dst: 'ff:ff:ff:ff:ff:ff' })],
    ['to a multicast MAC address', packet({ src: MAC.host, dst: '01:00:5e:00:00:fb' })],
    ['ARP', ofType(0x0806, LAN)],
    ['IPv6', ofType(0x86dd, LAN)],
    ['a tagged frame', ofType(0x8100, LAN)],
    ['a redirect', icmpError(HOST, SERVER, packet({ src: MAC.lan, dst: MAC.host }), { icmp: { type: 5, code: 1 } })],
    [
      'an ICMP error about a packet that the kernel forwarded',
      icmpError(HOST, THIRD, frame(udp(`${THIRD}:53`, `${HOST}:5000`))),
    ],
    [
      "an ICMP error about the host's packet",
      icmpError(HOST, LAN_ADDRESS, frame(udp(`${LAN_ADDRESS}:53`, `${HOST}:9`))),
    ],
  ] as const
  for (const [what, spec] of packets)
    it(what, () => {
      expect(gateway.fate(LAN, spec)).toBe('not-ours')
      expect(gateway.toLan()).toEqual([])
    })
})

describe('from outside, not ours', () => {
  const packets = [
    ["to a port of the host's", tcpSegment(`${SERVER}:4000`, `${EXTERNAL}:22`, 'S')],
    ['to a port above those of NAT', udp(`${SERVER}:53`, `${EXTERNAL}:24576`)],
    ['a ping to the shared address', echo(SERVER, EXTERNAL, 7)],
    ["an answer to the host's ping", echoReply(SERVER, EXTERNAL, 20_000)],
    ['GRE to the shared address', gre(SERVER, EXTERNAL)],
    ['to another address of the host', udp(`${SERVER}:53`, `${LAN_ADDRESS}:53`)],
    ['to another outside host', udp(`${SERVER}:53`, '203.0.113.9:53')],
    ['through a third interface', udp(`${SERVER}:53`, `${THIRD}:53`)],
    [
      "an ICMP error about the host's own packet",
      icmpError(SERVER, EXTERNAL, frame(udp(`${EXTERNAL}:22`, `${SERVER}:9`))),
    ],
    ['to another MAC address', packet({ src: MAC.server, dst: '02:00:00:00:02:99' })],
    ['ARP', ofType(0x0806, WAN)],
    ['IPv6', ofType(0x86dd, WAN)],
  ] as const
  for (const [what, spec] of packets)
    it(what, () => {
      expect(gateway.fate(WAN, spec)).toBe('not-ours')
      expect(gateway.toWan()).toEqual([])
    })
})

describe('not to be forwarded', () => {
  it('no route: the sender is told, ICMP 3/0', () => {
    expect(gateway.fate(LAN, udp(`${HOST}:5000`, '198.18.0.1:53'))).toBe('no-route')
    expect(printed(gateway.toLan())).toEqual(['IP 10.0.0.1 > 10.0.0.5: ICMP net 198.18.0.1 unreachable, length 36'])
  })

  const martians = [
    ['an outside address from inside', LAN, udp(`${SERVER}:53`, '198.51.100.1:53')],
    ["an address of a third interface's from inside", LAN, udp(`${THIRD}:53`, `${SERVER}:53`)],
  ] as const
  for (const [what, port, spec] of martians)
    it(`martian source: ${what}`, () => {
      expect(gateway.fate(port, spec)).toBe('martian-source')
    })

  for (const [what, source] of [
    ['an inside address', HOST],
    ["the host's own address", EXTERNAL],
  ] as const)
    it(`martian source: ${what} from outside`, () => {
      const mapped = fromOf(gateway.inside(udp(`${HOST}:5001`, `${SERVER}:53`))[0]!)
      expect(gateway.fate(WAN, udp(`${source}:53`, mapped))).toBe('martian-source')
    })

  it('an inside address as destination from outside', () => {
    expect(gateway.fate(WAN, udp(`${SERVER}:53`, `${HOST}:5000`))).toBe('no-mapping')
  })
})

describe("a port of NAT's that nobody has, on the shared address, is the host's", () => {
  const FREE = `${EXTERNAL}:20000`
  const sources = [
    ['outside', WAN, SERVER],
    ['inside', LAN, HOST],
  ] as const
  for (const [side, port, source] of sources) {
    const from = `${source}:53`
    const damaged = frame({
      eth: port === LAN ? { src: MAC.host, dst: MAC.lan } : { src: MAC.server, dst: MAC.wan },
      ...udp(from, FREE, { payload: 'query' }),
    })
    damaged[damaged.length - 1]! ^= 1
    const packets = [
      ['UDP', udp(from, FREE)],
      ...['S', 'A', 'SA', 'PA', 'FA', 'R', 'RA', 'SF', ''].map(
        (flags) => [`TCP, flags "${flags}"`, tcpSegment(from, FREE, flags)] as const,
      ),
      ['with the last time to live', udp(from, FREE, { ip: { ttl: 1 } })],
      ['with a wrong checksum', damaged],
      ['with a source that no route leads back to', udp(`${side === 'inside' ? SERVER : HOST}:53`, FREE)],
      ['the first fragment', udp(from, FREE, { ip: { moreFragments: true, id: 1 }, payload: 'sixteen bytes...' })],
      [
        'a later fragment',
        {
          ip: { src: source, dst: EXTERNAL, moreFragments: true, fragmentOffset: 24, id: 1 },
          protocol: { number: 17 },
          payload: 'sixteen bytes...',
        },
      ],
      [
        'an ICMP error about what the host has sent from it',
        icmpError(source, EXTERNAL, frame(udp(FREE, `${source}:9`))),
      ],
      [
        'an ICMP error about a TCP segment that the host has sent from it',
        icmpError(source, EXTERNAL, frame(tcpSegment(FREE, `${source}:9`, 'S'))),
      ],
    ] as const
    for (const [what, spec] of packets)
      it(`from ${side}: ${what}`, () => {
        const before = gateway.drops()
        expect(gateway.fate(port, spec)).toBe('not-ours')
        expect([gateway.toLan(), gateway.toWan(), gateway.drops()]).toEqual([[], [], before])
      })
  }

  it('until it is mapped, and again when the mapping has ended', async () => {
    const fresh = await Gateway.start({ nat: { preservePorts: true } })
    expect(fresh.fate(WAN, udp(`${SERVER}:53`, FREE))).toBe('not-ours')
    fresh.inside(udp(`${HOST}:20000`, `${SERVER}:53`))
    expect(fresh.fate(WAN, udp(`${SERVER}:53`, FREE))).toBe('sent')
    expect(fresh.fate(WAN, udp('192.0.2.99:53', FREE))).toBe('filtered')
    expect(fresh.fate(LAN, udp(`${OTHER_HOST}:53`, FREE))).toBe('filtered')
    expect(fresh.fate(WAN, tcpSegment(`${SERVER}:53`, FREE, 'S'))).toBe('not-ours')
    fresh.pass(400)
    expect(fresh.fate(WAN, udp(`${SERVER}:53`, FREE))).toBe('not-ours')
    fresh.check()
  })

  it("unless an expectation has announced it: that is nobody else's", async () => {
    const fresh = await Gateway.start()
    const at = fresh.externals.portIndex(0, UDP_SPACE, 20_000)
    fresh.externals.portWords[at] = RESERVATION
    expect(fresh.fate(WAN, udp(`${SERVER}:53`, FREE))).toBe('no-mapping')
  })

  it('in whichever shard it arrives: it is not handed over', async () => {
    const cluster = await Cluster.start({ shards: 3, deliver: toNeighbour })
    for (let port = 16_384; port < 18_432; port += 16) {
      cluster.inject(WAN, udp(`${SERVER}:53`, `${EXTERNAL}:${port}`))
      cluster.inject(LAN, tcpSegment(`${HOST}:53`, `${EXTERNAL}:${port}`, 'A'))
      cluster.turn()
    }
    expect([cluster.handovers(), cluster.drops()]).toEqual([{}, {}])
    const notOurs = [0, 1, 2].map(
      (shard) => cluster.counter(shard, 'notOurs', WAN) + cluster.counter(shard, 'notOurs', LAN),
    )
    expect(notOurs.reduce((sum, count) => sum + count)).toBe(256)
  })
})

describe("an address that is NAT's alone", () => {
  let pool: Gateway
  beforeAll(async () => {
    pool = await Gateway.start({ pool: ['198.51.100.1'] })
  })
  const packets = [
    ['UDP to a port that nobody has', 'no-mapping', udp(`${SERVER}:53`, '198.51.100.1:22')],
    ['a ping', 'no-mapping', echo(SERVER, '198.51.100.1', 7)],
    ['an answer to no ping', 'icmp-no-query', echoReply(SERVER, '198.51.100.1', 7)],
    ['GRE', 'no-mapping', gre(SERVER, '198.51.100.1')],
    [
      'an ICMP error',
      'icmp-error-unrelated',
      icmpError(SERVER, '198.51.100.1', frame(udp('198.51.100.1:9', `${SERVER}:9`))),
    ],
  ] as const
  for (const [what, reason, spec] of packets)
    it(`${what}: ${reason}`, () => {
      expect(pool.fate(WAN, spec)).toBe(reason)
    })

  it('is what connections are translated to', () => {
    const [sent] = pool.inside(udp(`${HOST}:5000`, `${SERVER}:53`))
    expect(decode(sent!).src).toBe('198.51.100.1')
    expect(printed(pool.outside(udp(`${SERVER}:53`, fromOf(sent!))))).toEqual([
      'IP 192.0.2.7.53 > 10.0.0.5.5000: UDP, length 0',
    ])
  })
})
