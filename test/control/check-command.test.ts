import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { effectiveConfig } from '../../src/control/check-command.ts'
import { loadConfig } from '../../src/control/config.ts'
import { jsonSchema } from '../../src/control/json-schema.ts'
import { KEYS } from '../../src/control/keys.ts'
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
    },
  ]
  for (const env of configurations)
    it(`of ${JSON.stringify(env)}, read again, gives the same`, () => {
      const loaded = loadConfig({ env })
      const file = temporaryFile('natloom.yaml', effectiveConfig(loaded))
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
