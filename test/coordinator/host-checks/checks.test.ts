// What each check of a host finds, by a host that has everything but one thing. An error is what a start refuses, in
// the same words.

import { describe, expect, it } from 'vitest'
import { loadConfig } from '../../../src/control/config.ts'
import type { GatewayConfig } from '../../../src/coordinator/config.ts'
import { GatewayError } from '../../../src/coordinator/errors.ts'
import { CHECK_NAMES, findingsAtStart, findingsOf, refuseErrors } from '../../../src/coordinator/host-checks/checks.ts'
import { textOf } from '../../../src/coordinator/host-checks/finding.ts'
import { HostError } from '../../../src/host/errors.ts'
import type { HostFacts } from '../../../src/host/facts.ts'
import type { LinkReport } from '../../../src/host/host-tables.ts'
import { tableNames } from '../../../src/host/rule-tables.ts'
import { rulesetOf } from '../../../src/host/ruleset.ts'
import { ROUTE } from '../../../src/routing/fib.ts'
import { parseAddress } from '../../../src/wire/address.ts'

const link = (name: string, address: string, more: Partial<LinkReport> = {}): LinkReport => ({
  name,
  present: true,
  index: 2,
  enabled: true,
  up: true,
  ethernet: true,
  mtu: 1500,
  mac: '02:00:00:00:00:01',
  master: undefined,
  addresses: address === '' ? [] : [{ address: parseAddress(address), prefixLength: 24, primary: true }],
  ...more,
})
const LAN = link('lan0', '10.0.0.1')
const WAN = link('wan0', '203.0.113.1')
const EMPTY = { chains: [], rules: [] }

/** A host on which nothing is to be found. */
const READY: HostFacts = {
  isLittleEndian: () => true,
  missingCapabilities: () => [],
  missingTools: () => [],
  inUse: () => undefined,
  leftBehind: () => false,
  links: () => [LAN, WAN],
  routeTo: () => ({ type: ROUTE.unicast, port: 0 }),
  ruleset: () => EMPTY,
  natloomTables: () => new Set(tableNames('natloom')),
  ruleTexts: () => new Map(),
  legacyTables: () => [],
  portsInUse: () => new Set(),
  portRange: () => ({ from: 32768, to: 60999 }),
  mayWritePortRange: () => true,
  arpIgnore: () => 0,
  policyRules: () => [],
  forwards: () => false,
  availableMemory: () => 2 ** 30,
}

const config = (env: Readonly<Record<string, string>> = {}): GatewayConfig =>
  loadConfig({ env: { NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0', ...env } }).config

const found = (host: Partial<HostFacts>, env: Readonly<Record<string, string>> = {}) =>
  findingsOf(config(env), { ...READY, ...host })

const base = (hook: string, type: string, policy = 'accept') => ({
  chain: { family: 'inet', table: 'filter', name: 'forward', type, hook, policy },
})
const rule = (handle: number, ...expr: Record<string, unknown>[]) => ({
  rule: { family: 'inet', table: 'filter', chain: 'forward', handle, expr },
})
const iifname = (name: string) => ({ match: { op: '==', left: { meta: { key: 'iifname' } }, right: name } })
const FORWARD = { NATLOOM_FORWARD: 'tcp :21 10.0.0.5:21' }
const refusing = rulesetOf({ nftables: [base('forward', 'filter'), rule(4, iifname('lan0'), { drop: null })] })

describe('a host that has everything', () => {
  it('is ready: nothing is found', () => {
    expect(found({}, FORWARD)).toEqual([])
    expect(() => refuseErrors(found({}))).not.toThrow()
  })
})

describe('a host that lacks one thing', () => {
  const cases: readonly (readonly [string, Partial<HostFacts>, Readonly<Record<string, string>>, string, string])[] = [
    // check, facts, variables, what is found, what mends it
    ['byte-order', { isLittleEndian: () => false }, {}, 'error: this machine is big-endian', 'little-endian'],
    [
      'rights',
      { missingCapabilities: () => ['CAP_NET_ADMIN', 'CAP_NET_RAW'] },
      {},
      'error: natloom lacks CAP_NET_ADMIN and CAP_NET_RAW',
      '--cap-add NET_ADMIN',
    ],
    [
      'tools',
      { missingTools: () => [{ tool: 'nft', package: 'nftables' }] },
      {},
      'error: the program nft is missing',
      'apt install nftables',
    ],
    ['instances', { inUse: () => 'a natloom named natloom runs here already' }, {}, 'error: a natloom named', ''],
    ['instances', { leftBehind: () => true }, {}, 'warning: a natloom that was killed has left', 'start natloom'],
    [
      'instances',
      {
        leftBehind: () => {
          throw new HostError('HOST_IN_USE', 'belongs to a natloom that is running')
        },
      },
      {},
      'error: belongs to a natloom that is running',
      '',
    ],
    [
      'interfaces',
      { links: () => [link('lan0', '', { present: false }), WAN] },
      {},
      'error: there is no interface lan0 here',
      'NATLOOM_INSIDE',
    ],
    [
      'interfaces',
      { links: () => [LAN, link('wan0', '203.0.113.1', { ethernet: false })] },
      {},
      'error: interface wan0 has no Ethernet header',
      'Ethernet-like',
    ],
    [
      'interfaces',
      { links: () => [link('lan0', '10.0.0.1', { enabled: false, up: false }), WAN] },
      {},
      'warning: interface lan0 is down',
      'ip link set lan0 up',
    ],
    [
      'interfaces',
      { links: () => [LAN, link('wan0', '203.0.113.1', { up: false })] },
      {},
      'warning: interface wan0 has no carrier',
      'cable',
    ],
    [
      'interfaces',
      { links: () => [link('lan0', ''), WAN] },
      {},
      'warning: inside interface lan0 has no IPv4 address',
      'ip address add ADDRESS/LENGTH dev lan0',
    ],
    [
      'outside-address',
      { links: () => [LAN, link('wan0', '')] },
      {},
      'warning: no outside interface (wan0) has an IPv4 address',
      'nat.pool',
    ],
    [
      'kernel-nat',
      { ruleset: () => rulesetOf({ nftables: [base('postrouting', 'nat'), rule(7, { masquerade: null })] }) },
      {},
      'error: the kernel itself translates what leaves by wan0, and may take ports 16384-60991, which are ' +
        "natloom's:\n  inet filter forward, handle 7: masquerade",
      'masquerade to :60992-65535',
    ],
    [
      'port-range',
      { mayWritePortRange: () => false },
      {},
      "error: net.ipv4.ip_local_port_range is 32768-60999 and can't be changed from here",
      'sysctl -w net.ipv4.ip_local_port_range="60992 65535"',
    ],
    [
      'sockets',
      { portsInUse: (_, range, protocol) => new Set(protocol === 17 && range.from === 16384 ? [51820, 20000] : []) },
      {},
      'warning: the host has sockets on 2 UDP ports of nat.ports (16384-60991), which NAT leaves out: 20000, 51820',
      'ss -nuap',
    ],
    [
      'forwarded-sockets',
      { portsInUse: (_, range, protocol) => new Set(protocol === 6 && range.from === 21 ? [21] : []) },
      FORWARD,
      'error: the host itself has sockets on ports that are to be forwarded:\n  tcp :21 -> 10.0.0.5:21',
      'stop that server',
    ],
    [
      'forwarded-addresses',
      {},
      { NATLOOM_FORWARD: 'tcp 203.0.113.9:21 10.0.0.5:21' },
      'warning: forward tcp 203.0.113.9:21 -> 10.0.0.5:21: 203.0.113.9 is not the address that NAT has here, ' +
        'which is 203.0.113.1',
      'from: :21',
    ],
    [
      'forwarded-targets',
      { routeTo: () => ({ type: ROUTE.unicast, port: 1 }) },
      FORWARD,
      "warning: forward tcp :21 -> 10.0.0.5:21: the routes don't lead to 10.0.0.5 by an inside interface (lan0)",
      'ip route get 10.0.0.5',
    ],
    [
      'forwarded-targets',
      { routeTo: () => ({ type: ROUTE.local, port: 0 }) },
      FORWARD,
      "warning: forward tcp :21 -> 10.0.0.5:21: the routes don't lead to 10.0.0.5",
      'correct to:',
    ],
    [
      'forward-chains',
      { ruleset: () => refusing, ruleTexts: () => new Map([[4, 'iifname "lan0" drop']]) },
      {},
      'warning: the chain inet filter forward never meets what natloom forwards, so of that it no longer refuses:\n' +
        '  inet filter forward, handle 4: iifname "lan0" drop',
      'filter: [allow]',
    ],
    [
      'forward-chains',
      { ruleset: () => rulesetOf({ nftables: [base('forward', 'filter', 'drop')] }) },
      {},
      'warning: the chain inet filter forward never meets what natloom forwards, so of that it no longer refuses:\n' +
        '  what none of its rules accepts, by its policy drop',
      'deny out tcp port 25',
    ],
    [
      'legacy-rules',
      { legacyTables: () => ['nat', 'filter'] },
      {},
      'warning: iptables-legacy has rules here (tables nat, filter)',
      'iptables-legacy -S FORWARD; iptables-legacy -t nat -S POSTROUTING',
    ],
    [
      'pool-arp',
      { arpIgnore: (name) => (name === 'wan0' ? 1 : 0) },
      { NATLOOM_NAT_POOL: '203.0.113.50' },
      'warning: net.ipv4.conf.all.arp_ignore or that of wan0 is 1',
      'net/ipv4/conf/wan0/arp_ignore=0',
    ],
    [
      'policy-rules',
      { policyRules: () => [100, 1000] },
      {},
      'warning: this host has policy rules (ip rule, priorities 100, 1000)',
      'ip route show table main',
    ],
    ['ip-forward', { forwards: () => true }, {}, 'warning: net.ipv4.ip_forward is 1', 'net.ipv4.ip_forward=0'],
    [
      'ip-forward',
      { links: () => [LAN, link('lan1', '10.0.1.1'), WAN] },
      { NATLOOM_INSIDE: 'lan0,lan1' },
      'warning: net.ipv4.ip_forward is 0',
      'net.ipv4.ip_forward=1',
    ],
    [
      'memory',
      { availableMemory: () => 200 * 2 ** 20 },
      { NATLOOM_WORKERS: '2' },
      'warning: receive rings take 256 MB at once, and this host has 200 MB to spare',
      'io.ringMegabytes',
    ],
  ]
  for (const [check, facts, env, what, mend] of cases)
    it(`${check}: ${what.split('\n')[0]}`, () => {
      const findings = found(facts, env)
      expect(findings.map((finding) => finding.check)).toEqual([check])
      const [finding] = findings
      expect(`${finding!.severity}: ${finding!.what}`).toContain(what)
      expect(finding!.mend).toContain(mend)
      // What a start refuses is what is called an error, in the same words.
      const start = () => refuseErrors(findings)
      if (finding!.severity === 'error') expect(start).toThrow(new GatewayError(finding!.code, textOf(finding!)))
      else expect(start).not.toThrow()
    })

  it('is tried for every check that there is', () => {
    expect(new Set(cases.map(([check]) => check))).toEqual(new Set(CHECK_NAMES))
  })
})

describe('what an operator has seen to', () => {
  const seenTo: readonly (readonly [string, Partial<HostFacts>, Readonly<Record<string, string>>])[] = [
    ['forward chains, by a filter', { ruleset: () => refusing }, { NATLOOM_FILTER: 'allow' }],
    ['legacy forward chains, by a filter', { legacyTables: () => ['filter'] }, { NATLOOM_FILTER: 'allow' }],
    [
      "the kernel's NAT, by his word",
      { ruleset: () => rulesetOf({ nftables: [base('postrouting', 'nat'), rule(7, { masquerade: null })] }) },
      { NATLOOM_NAT_SHARED_WITH_KERNEL_NAT: 'true' },
    ],
    [
      "the host's address, sockets and range, by a pool",
      {
        links: () => [LAN, link('wan0', '')],
        portsInUse: () => new Set([21, 20000]),
        mayWritePortRange: () => false,
      },
      { NATLOOM_NAT_POOL: '203.0.113.9' },
    ],
    [
      'the port range, beforehand',
      { mayWritePortRange: () => false, portRange: () => ({ from: 60992, to: 65535 }) },
      {},
    ],
  ]
  for (const [what, facts, env] of seenTo)
    it(`${what}: isn't told`, () => {
      expect(found(facts, env)).toEqual([])
    })
})

describe('an interface that is part of another one', () => {
  const partOf = (kind: string) =>
    found({ links: () => [link('lan0', '10.0.0.1', { master: { name: 'lan', kind } }), WAN] })

  for (const kind of ['bridge', 'bond', 'team', 'openvswitch', 'hsr'])
    it(`of kind ${kind} is refused, since it gets no frames of its own, and the other one is named`, () =>
      expect(() => refuseErrors(partOf(kind))).toThrow(
        `interface lan0 is part of the ${kind} lan, which takes all of its frames: name lan instead, or take lan0 ` +
          'out of it',
      ))

  it('is taken where that one leaves it its frames, as a VRF does', () => expect(partOf('vrf')).toEqual([]))
})

describe('the forward chain of a natloom', () => {
  const own = ['natloom', 'natloom-owned', 'guests', 'guests-owned']
  const ruleset = (family: string) =>
    rulesetOf({
      nftables: own.map((table) => ({
        chain: { family, table, name: 'forward', type: 'filter', hook: 'forward', policy: 'drop' },
      })),
    })
  const natloomTables = () => new Set([...tableNames('natloom'), ...tableNames('guests')])

  it('is nobody else’s, whatever its name and in whichever of its tables', () =>
    expect(found({ ruleset: () => ruleset('ip'), natloomTables }, { NATLOOM_NAME: 'guests' })).toEqual([]))

  it('is known by the family too: a table of that name in another one is somebody else’s', () =>
    expect(found({ ruleset: () => ruleset('inet'), natloomTables })).toHaveLength(own.length))
})

describe('a start that has claimed its name and interfaces', () => {
  it('finds nothing of other natlooms, itself among them', () => {
    const held = { ...READY, inUse: () => 'a natloom named natloom runs here already', leftBehind: () => true }
    expect(findingsAtStart(config(), held)).toEqual([])
  })
})

describe('several things at once', () => {
  it('are all told, and a start names all that it refuses', () => {
    const findings = found({
      links: () => [link('lan0', '', { present: false }), link('wan0', '', { present: false })],
      forwards: () => true,
    })
    expect(findings.map(({ check, severity }) => `${check} ${severity}`)).toEqual([
      'interfaces error',
      'interfaces error',
      'outside-address warning',
      'ip-forward warning',
    ])
    expect(() => refuseErrors(findings)).toThrow(/no interface lan0 here: .*\nthere is no interface wan0 here: /)
  })

  it('are not looked for without the rights to look', () => {
    const looks = () => {
      throw new HostError('HOST_NFT', 'nft failed')
    }
    const findings = found({ missingCapabilities: () => ['CAP_NET_ADMIN'], ruleset: looks, links: looks })
    expect(findings.map(({ check }) => check)).toEqual(['rights'])
  })

  it('hold a check that can’t look for an error, and go on with the others', () => {
    const findings = found({
      ruleset: () => {
        throw new HostError('HOST_NFT', 'nft -j list ruleset failed: it said so')
      },
      forwards: () => true,
    })
    expect(findings).toMatchObject([
      { check: 'kernel-nat', severity: 'error', code: 'HOST_NFT', what: 'nft -j list ruleset failed: it said so' },
      { check: 'forward-chains', severity: 'error', code: 'HOST_NFT' },
      { check: 'ip-forward', severity: 'warning' },
    ])
  })
})
