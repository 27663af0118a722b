// What is looked at while a gateway runs: what is said, counted and tried again, and how often.

import { beforeEach, describe, expect, it } from 'vitest'
import { Attempts } from '../../src/coordinator/attempts.ts'
import type { GatewayConfig } from '../../src/coordinator/config.ts'
import type { NamedFinding } from '../../src/coordinator/host-checks/checks.ts'
import { HostWatch } from '../../src/coordinator/host-watch.ts'
import type { QdiscChange } from '../../src/coordinator/interfaces/packet-ports.ts'
import type { Restored } from '../../src/host/host.ts'
import type { LinkReport } from '../../src/host/host-tables.ts'
import { HOST_PARTS } from '../../src/metrics/host-settings.ts'

const finding = (check: string, what: string): NamedFinding => ({ check, severity: 'warning', what, mend: 'mend it' })
const NAT = finding('kernel-nat', 'the kernel itself translates')
const CHAIN = finding('forward-chains', 'a chain refuses')

let now: number
let said: string[]
let restored: Restored[]
let qdiscs: QdiscChange[]
let found: NamedFinding[]
let checks: number
/** How long a check takes. */
let cost: number
let fails: string
let updates: number
let rulesFail: string
let attempts: Attempts
let watch: HostWatch

beforeEach(() => {
  now = 0
  said = []
  restored = []
  qdiscs = []
  found = []
  checks = 0
  cost = 0
  fails = ''
  updates = 0
  rulesFail = ''
  const note = (level: string) => (of: { what?: string; check?: string }, text: string) =>
    said.push(`${level}: ${[of.check, of.what].filter(Boolean).join(' ')} ${text}`.replace('  ', ' '))
  const log = { info: note('info'), warn: note('warn'), error: note('error') } as never
  attempts = new Attempts(log)
  watch = new HostWatch({
    host: {
      lookAtRules() {
        if (rulesFail) throw new Error(rulesFail)
        return { inForce: true, restored: [] }
      },
      lookAtSettings() {
        if (fails) throw new Error(fails)
        return restored
      },
      update: () => void updates++,
    },
    config: { inside: ['lan0', 'lan1'], outside: ['wan0'] } as unknown as GatewayConfig,
    log,
    attempts,
    findings() {
      checks++
      now += cost
      return found
    },
    followQdiscs: () => qdiscs,
    now: () => now,
  })
})

const pass = (milliseconds: number): void => {
  now += milliseconds
  watch.look()
}

describe('a setting that somebody has changed', () => {
  it('is said and counted by what it is, each time', () => {
    restored = [
      { what: 'port-range', was: '32768-60999' },
      { what: 'pool-route', was: 'of 203.0.113.50 removed' },
    ]
    pass(3000)
    restored = [{ what: 'port-range', was: '1024-65535' }]
    pass(3000)
    restored = []
    pass(3000)
    expect(watch.restored).toEqual({ 'port-range': 2, 'pool-route': 1, 'state-file': 0 })
    expect(said).toHaveLength(3)
    expect(said[0]).toBe('warn: port-range somebody has changed what natloom has set on this host: set again')
  })

  it('that can’t be looked at is said once, keeps nothing else from being looked at, and is tried again', () => {
    fails = 'read-only'
    qdiscs = [{ name: 'wan0', kind: 'tbf', bypass: false }]
    pass(3000)
    qdiscs = []
    pass(3000)
    expect(said).toEqual([
      'error: port range, pool routes and state file could not be looked at, will be tried again',
      'info: a queueing discipline was configured: honoured from now on',
    ])
    fails = ''
    pass(3000)
    fails = 'read-only'
    pass(3000)
    expect(said).toHaveLength(3)
  })
})

describe('what can’t be looked at', () => {
  const failing = () => HOST_PARTS.filter((part) => watch.failing(part) > 0)

  it('is a fault with its reason, and its part fails, until a look succeeds', () => {
    fails = 'read-only'
    rulesFail = 'ENOBUFS'
    pass(3000)
    expect(attempts.faults()).toEqual([
      'the nft rules could not be looked at (ENOBUFS)',
      'port range, pool routes and state file could not be looked at (read-only)',
    ])
    expect([failing(), watch.rules.inForce]).toEqual([['rules', 'settings'], undefined])
    rulesFail = ''
    watch.rulesetChanged('nft (7)')
    expect([failing(), watch.rules.inForce]).toEqual([['settings'], true])
    fails = ''
    pass(3000)
    expect([failing(), attempts.faults()]).toEqual([[], []])
  })

  it('by one of the checks is counted among them, and no fault of the gateway', () => {
    found = [{ ...finding('kernel-nat', 'nft failed'), couldNotLook: true }, CHAIN]
    pass(60_000)
    expect([watch.failing('checks'), failing(), attempts.faults()]).toEqual([1, ['checks'], []])
    found = [CHAIN]
    pass(60_000)
    expect(failing()).toEqual([])
  })
})

describe('what the start has checked', () => {
  it('is said at the start, but for what is taken over; and again only if it is news', () => {
    watch.begin([NAT, finding('state-file', 'left behind'), finding('memory', 'too little')])
    expect(said).toEqual(['warn: kernel-nat the kernel itself translates', 'warn: memory too little'])
    said = []
    found = [NAT]
    pass(60_000)
    expect(said).toEqual([])
    found = [CHAIN]
    pass(60_000)
    expect(said).toEqual(['warn: forward-chains a chain refuses', `info: kernel-nat ${NAT.what} this is so no longer`])
    expect(watch.findings).toEqual([CHAIN])
  })

  it('stays as it was found by a check that can’t look now', () => {
    watch.begin([NAT, CHAIN])
    said = []
    const blind: NamedFinding = { ...finding('kernel-nat', 'nft failed'), couldNotLook: true }
    found = [blind]
    pass(60_000)
    pass(60_000)
    expect(said).toEqual(['warn: kernel-nat nft failed', `info: forward-chains ${CHAIN.what} this is so no longer`])
    expect(watch.findings).toEqual([NAT, blind])
    said = []
    found = [NAT]
    pass(60_000)
    expect(said).toEqual(['info: kernel-nat nft failed this is so no longer'])
    expect(watch.findings).toEqual([NAT])
  })

  it('is looked at every minute, and for a fiftieth of the time at most', () => {
    for (let i = 0; i < 40; i++) pass(3000)
    expect(checks).toBe(2)
    cost = 10_000
    pass(60_000)
    for (let i = 0; i < 166; i++) pass(3000)
    expect(checks).toBe(3)
    pass(3000)
    expect(checks).toBe(4)
  })

  it('is looked at when the ruleset has changed, every ten seconds at most', () => {
    watch.rulesetChanged('nft (7)')
    pass(3000)
    expect(checks).toBe(1)
    for (let i = 0; i < 10; i++) {
      watch.rulesetChanged('kube-proxy (8)')
      pass(3000)
    }
    expect(checks).toBe(3)
  })
})

it('the rules follow interfaces that are renamed, removed and made anew, once each', () => {
  const report = (...links: Partial<LinkReport>[]) => watch.followLinks(links as LinkReport[])
  const counts = [
    [{ index: 2 }, { index: 3 }],
    [{ index: 2 }, { index: 3, up: true }],
    [{ index: 2 }, { index: 0, renamedTo: 'wan9' }],
    [{ index: 2 }, { index: 0, renamedTo: 'wan9' }],
    [{ index: 2 }, { index: 0 }],
    [{ index: 2 }, { index: 4 }],
  ].map((links) => {
    report(...links)
    return updates
  })
  expect(counts).toEqual([0, 0, 1, 1, 2, 3])
})
