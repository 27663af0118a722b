import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { effectiveConfig, hostReport } from '../../src/control/check-command.ts'
import { loadConfig } from '../../src/control/config.ts'
import { jsonSchema } from '../../src/control/json-schema.ts'
import { KEYS } from '../../src/control/keys.ts'
import type { NamedFinding } from '../../src/coordinator/host-checks/checks.ts'
import { error, warning } from '../../src/coordinator/host-checks/finding.ts'
import { temporaryFile, type Variables } from './command.ts'

const TWO_INTERFACES = { NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0' }
const deployed = (name: string) => readFileSync(new URL(`../../deploy/${name}`, import.meta.url), 'utf8')

describe('the configuration in force, printed', () => {
  const configurations: readonly Variables[] = [
    TWO_INTERFACES,
    {
      ...TWO_INTERFACES,
      NATLOOM_TIMEOUTS: 'linux',
      NATLOOM_TIMEOUTS_TCP_CLOSING: '50',
      NATLOOM_NAT_PROTOCOLS: 'gre,47',
    },
    {
      NATLOOM_INSIDE: 'lan0,lan1',
      NATLOOM_OUTSIDE: 'wan0',
      NATLOOM_NAT_POOL: '203.0.113.0/28',
      NATLOOM_NAT_PARITY: 'false',
      NATLOOM_HELPERS: 'irc, ./parcel.js',
      NATLOOM_FORWARD: 'tcp 203.0.113.1:21 10.0.0.5:21',
      NATLOOM_FILTER: 'deny out tcp port 25, allow in proto 99 inside 10.0.0.0/8, deny',
      NATLOOM_LIMITS: 'inside 10.0.0.5 connections 100 ports 50, newConnections 7',
    },
  ]
  for (const env of configurations)
    it(`of ${JSON.stringify(env)}, read again, gives the same`, () => {
      const loaded = loadConfig({ env })
      const file = temporaryFile('natloom.yaml', effectiveConfig(loaded))
      expect(loadConfig({ file, env: {} }).config).toEqual(loaded.config)
    })

  it('is the same as JSON, without comments', () => {
    const loaded = loadConfig({ env: { ...TWO_INTERFACES, NATLOOM_FILTER: 'deny in' } })
    const file = temporaryFile('natloom.yaml', effectiveConfig(loaded, 'json'))
    expect(loadConfig({ file, env: {} }).config).toEqual(loaded.config)
  })

  it('says where each value was set that is no default', () => {
    const file = temporaryFile('natloom.yaml', 'outside: [wan0]\nnat:\n  blockSize: 128\ntimeouts: linux\n')
    const env = { NATLOOM_INSIDE: 'lan0', NATLOOM_METRICS_LISTEN: '127.0.0.1:0' }
    const commented = effectiveConfig(loadConfig({ file, env }))
      .split('\n')
      .filter((line) => line.includes('#'))
      .map((line) => line.trim().replace(/#.*\//, '# '))
    expect(commented).toEqual([
      'inside: [ lan0 ] # NATLOOM_INSIDE',
      'outside: [ wan0 ] # natloom.yaml:1',
      'blockSize: 128 # natloom.yaml:3',
      'preset: linux # natloom.yaml:4',
      'listen: 127.0.0.1:0 # NATLOOM_METRICS_LISTEN',
    ])
  })
})

describe('what the checks of the host have found', () => {
  const down = { check: 'interfaces', ...warning('lan0 is down', 'ip link set lan0 up') }
  const sockets = 'the host has sockets there:\n  tcp :21'
  const served = { check: 'forwarded-sockets', ...error('GATEWAY_FORWARD', sockets, 'stop that server') }
  const failed = { check: 'kernel-nat', ...error('HOST_NFT', 'nft failed', '') }

  const cases: readonly (readonly [readonly NamedFinding[], number, string])[] = [
    [[], 0, 'nothing found: natloom run would start'],
    [
      [down],
      5,
      'warning: interfaces: lan0 is down\n    mend: ip link set lan0 up\n\n1 warning: natloom run would start',
    ],
    [
      [served, down, down],
      3,
      'error: forwarded-sockets: the host has sockets there:\n      tcp :21\n    mend: stop that server\n\n' +
        'warning: interfaces: lan0 is down\n    mend: ip link set lan0 up\n\n'.repeat(2) +
        '1 error, 2 warnings: natloom run would refuse to start',
    ],
    [[failed], 3, 'error: kernel-nat: nft failed\n\n1 error: natloom run would refuse to start'],
  ]
  for (const [findings, exitCode, text] of cases)
    it(`is told to people with exit code ${exitCode}: ${findings.map(({ check }) => check).join()}`, () => {
      expect(hostReport(findings, 'text')).toEqual({ text, exitCode })
    })

  it('is told to programs as JSON', () => {
    const { text, exitCode } = hostReport([served, down], 'json')
    expect(JSON.parse(text)).toEqual({ errors: 1, warnings: 1, findings: [served, down] })
    expect(exitCode).toBe(3)
  })
})

describe('deploy/natloom.yaml', () => {
  // Prose is "# ...", a key that is commented out "#key: ...".
  const everything = deployed('natloom.yaml').replace(/^(\s*)#(?=[a-zA-Z]+:)/gm, '$1')

  it('configures as it stands what two variables do', () => {
    const file = temporaryFile('natloom.yaml', deployed('natloom.yaml'))
    expect(loadConfig({ file, env: {} }).config).toEqual(loadConfig({ env: TWO_INTERFACES }).config)
  })

  it('shows every key, each with its default where that is the same on every host', () => {
    const file = temporaryFile('natloom.yaml', everything)
    const { config, sources } = loadConfig({ file, env: {} })
    const { capacity, workers, ...defaults } = loadConfig({ env: TWO_INTERFACES }).config
    expect(config).toMatchObject(defaults)
    expect(KEYS.filter(({ path }) => sources.origin(path) === undefined)).toEqual([])
  })
})

describe('deploy/natloom.schema.json', () => {
  it('is what `natloom check --schema` prints', () => {
    expect(JSON.parse(deployed('natloom.schema.json'))).toEqual(jsonSchema())
  })
})
