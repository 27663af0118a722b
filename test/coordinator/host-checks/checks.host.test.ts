// `natloom check --host` and `natloom run` on a host with a firewall of its own: a namespace with a real ruleset. What
// the one calls an error the other refuses, in the same words; what the one warns of the other logs. The check changes
// nothing.

import { spawnSync } from 'node:child_process'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { NETLINK_NETFILTER, NetlinkSocket } from '../../../src/host/netlink-socket.ts'
import { TABLE_OWNER, TABLE_PERSIST, Transaction } from '../../../src/host/nf-tables.ts'
import { inside } from '../../host/inside.ts'
import { Network } from '../network.ts'

const COMMAND = new URL('../../../dist/src/control/main.js', import.meta.url).pathname
const FIREWALL = `
table inet filter {
  chain forward {
    type filter hook forward priority filter; policy drop;
    iifname "lan0" oifname "wan0" tcp dport 25 reject
    ct state established,related accept
    iifname "lan0" accept
  }
}
`
const MASQUERADE = `
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname "wan0" masquerade
  }
}
`

let network: Network
beforeEach(() => {
  network = new Network()
  // A new namespace has what the machine has, and where containers run that is 1.
  on('sh', '-c', 'echo 0 > /proc/sys/net/ipv4/ip_forward')
})
afterEach(() => network?.close())

const on = (...command: [string, ...string[]]) => network.gateway.host.exec(...command)
const rules = (text: string) =>
  spawnSync('ip', ['netns', 'exec', network.gateway.host.name, 'nft', '-f', '-'], { input: text, encoding: 'utf8' })

interface Report {
  readonly errors: number
  readonly warnings: number
  readonly findings: readonly { readonly check: string; readonly severity: string; readonly what: string }[]
}

/** Everything on the host that natloom changes when it runs. */
const state = () =>
  [
    on('nft', 'list', 'ruleset'),
    on('cat', '/proc/sys/net/ipv4/ip_local_port_range'),
    on('ip', 'route', 'show', 'table', 'all'),
    on('ip', '-details', 'link'),
  ].join('\n')

function checkHost(env: Readonly<Record<string, string>> = {}, output = 'json') {
  const before = state()
  const { status, stdout, stderr } = spawnSync(
    'ip',
    ['netns', 'exec', network.gateway.host.name, process.execPath, COMMAND, 'check', '--host', '-o', output],
    { encoding: 'utf8', env: { PATH: process.env.PATH, ...network.variables, ...env } },
  )
  expect(stderr).toBe('')
  expect(state()).toBe(before)
  return { status, text: stdout, report: output === 'json' ? (JSON.parse(stdout) as Report) : undefined }
}

describe('a host without rules of its own', () => {
  it('is ready', () => {
    expect(checkHost()).toMatchObject({ status: 0, report: { errors: 0, warnings: 0, findings: [] } })
    expect(checkHost({}, 'text').text).toBe('nothing found: natloom run would start\n')
  })
})

describe('a host with a forward firewall', () => {
  it('is told what of it natloom takes away, by the check and by a start, until there is a filter', async () => {
    expect(rules(FIREWALL).stderr).toBe('')
    const { status, report } = checkHost()
    expect(status).toBe(5)
    expect(report).toMatchObject({ errors: 0, warnings: 1, findings: [{ check: 'forward-chains' }] })
    const { what } = report!.findings[0]!
    expect(what).toMatch(/handle \d+: iifname "lan0" oifname "wan0" tcp dport 25 reject/)
    expect(what).toContain('policy drop')
    const { text } = checkHost({}, 'text')
    expect(text).toMatch(/^warning: forward-chains: the chain inet filter forward never meets/)
    expect(text).toMatch(/\n {4}mend: write under filter .*\n\n1 warning: natloom run would start\n$/)

    const natloom = network.natloom()
    expect(await natloom.logged('"forward-chains"')).toMatchObject({ msg: what })
    await natloom.logged('"forwarding"')
    expect(await natloom.stop()).toBe(0)

    expect(checkHost({ NATLOOM_FILTER: 'deny out tcp port 25, allow out, deny' })).toMatchObject({ status: 0 })
  })
})

describe('a host with NAT of its own', () => {
  it('is refused by the check and by a start in the same words', async () => {
    expect(rules(MASQUERADE).stderr).toBe('')
    const { status, report } = checkHost()
    expect(status).toBe(3)
    expect(report).toMatchObject({ errors: 1, findings: [{ check: 'kernel-nat', severity: 'error' }] })
    const natloom = network.natloom()
    const { msg } = await natloom.logged('"fatal"')
    expect(msg).toContain(report!.findings[0]!.what)
    expect(await natloom.ended()).toBe(3)
  })
})

describe('a host on which somebody else owns the nft table of the name', () => {
  it('is refused by the check and by a start in the same words', async () => {
    const { host } = network.gateway
    const owner = inside(host, () => new NetlinkSocket(NETLINK_NETFILTER))
    try {
      const table = { family: 'ip', name: 'natloom' } as const
      new Transaction().addTable(table, TABLE_OWNER | TABLE_PERSIST).commit(owner)
      const { status, report } = checkHost()
      expect(status).toBe(3)
      expect(report!.findings).toMatchObject([{ check: 'instances', severity: 'error' }])
      const { what } = report!.findings[0]!
      expect(what).toContain(`the nft table ip natloom belongs to a running process (${owner.port})`)
      const natloom = network.natloom()
      const { msg } = await natloom.logged('"fatal"')
      expect(msg).toContain(what)
      expect(await natloom.ended()).toBe(3)
    } finally {
      owner.close()
    }
  })
})

describe('a host on which natloom runs', () => {
  it('is told so, and nothing else', async () => {
    const natloom = await network.forwarding()
    const { status, report } = checkHost()
    expect(status).toBe(3)
    expect(report!.findings.map(({ check }) => check)).toEqual(['instances'])
    expect(report!.findings[0]!.what).toContain('a natloom named natloom runs here already (process ')
    expect(await natloom.stop()).toBe(0)
  })
})
