import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ConfigError, loadConfig } from '../../src/control/config.ts'
import { temporaryFile, type Variables } from './command.ts'

const TWO_INTERFACES = { NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0' }
const INTERFACES_YAML = 'inside: [lan0]\noutside: [wan0]\n'

const fromEnvironment = (env: Variables) => loadConfig({ env: { ...TWO_INTERFACES, ...env } }).config
const fromFile = (yaml: string, env: Variables = {}) =>
  loadConfig({ file: temporaryFile('natloom.yaml', INTERFACES_YAML + yaml), env }).config

/** The problems that a configuration is refused for, one a line, without the folder of its file. */
function refused(load: () => unknown): string[] {
  try {
    load()
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.problems.map(({ where, what }) => `${where.replace(/^.*\//, '')}: ${what}`)
  }
  throw new Error('the configuration was accepted')
}

describe('a configuration with two interfaces and nothing else', () => {
  it('is complete', () => {
    expect(fromEnvironment({})).toEqual({
      name: 'natloom',
      inside: ['lan0'],
      outside: ['wan0'],
      onHelperFailure: 'reset',
      workers: expect.any(Number),
      dispatch: 'kernel',
      supervision: { restarts: 5, withinSeconds: 60 },
      io: { driver: 'af-packet', ringMegabytes: 128, qdisc: 'auto' },
      nat: {
        pool: [],
        blockSize: 64,
        ports: { from: 16384, to: 60991 },
        mapping: 'endpoint-independent',
        filtering: 'address-dependent',
        preservePorts: false,
        parity: true,
        protocols: [],
        sharedWithKernelNat: false,
      },
      forward: [],
      filter: [],
      limits: [],
      helpers: [{ module: 'ftp' }],
      timeouts: expect.objectContaining({ udpStream: 300 }),
      tcp: { pickup: false, liberal: false, answerUnsolicited: true },
      capacity: { connections: expect.any(Number), expectations: 4096 },
      icmp: { errorsPerSecond: 1000 },
      api: { socket: '/run/natloom/api.sock' },
      metrics: { listen: '127.0.0.1:9464' },
      log: { level: 'info', format: 'auto' },
      statePath: '/run/natloom/state.json',
    })
  })

  it('has a shard for each core but one, and at least one, as far as packet memory goes', () => {
    expect(fromEnvironment({}).workers).toBe(Math.min(26, Math.max(1, availableParallelism() - 1)))
  })

  it('tracks as many connections as fit the host, within bounds', () => {
    const { connections } = fromEnvironment({}).capacity
    expect(connections).toBeGreaterThanOrEqual(16_384)
    expect(connections).toBeLessThanOrEqual(262_144)
  })
})

describe('the file and the environment', () => {
  it('says the same in both', () => {
    const file = fromFile(
      'nat:\n  pool: [203.0.113.0/28, 198.51.100.7]\n  protocols: [gre, 50]\n  parity: false\n' +
        'timeouts:\n  udpDns: 20\n',
    )
    const environment = fromEnvironment({
      NATLOOM_NAT_POOL: '203.0.113.0/28, 198.51.100.7',
      NATLOOM_NAT_PROTOCOLS: 'gre,50',
      NATLOOM_NAT_PARITY: 'false',
      NATLOOM_TIMEOUTS_UDP_DNS: '20',
    })
    expect(environment).toEqual(file)
    expect(file.nat.protocols).toEqual([47, 50])
  })

  it('takes as many shards as are wanted, and either dispatcher', () => {
    const file = fromFile('workers: 32\ndispatch: thread\nsupervision: { restarts: 0 }\n')
    expect(file).toMatchObject({ workers: 32, dispatch: 'thread', supervision: { restarts: 0, withinSeconds: 60 } })
    const env = { NATLOOM_WORKERS: '32', NATLOOM_DISPATCH: 'thread', NATLOOM_SUPERVISION_RESTARTS: '0' }
    expect(fromEnvironment(env)).toEqual(file)
  })

  it('lets a variable win over the file, key by key', () => {
    const { nat } = fromFile('nat: { blockSize: 128, parity: false }\n', { NATLOOM_NAT_BLOCK_SIZE: '256' })
    expect(nat).toMatchObject({ blockSize: 256, parity: false })
  })

  it('takes an empty variable, and a key without a value, for not set', () => {
    expect(fromFile('nat:\nworkers:\n', { NATLOOM_NAT_BLOCK_SIZE: '' })).toEqual(fromEnvironment({}))
  })

  it('takes a section given as one word for its main key', () => {
    expect(fromFile('io: af-packet\ntimeouts: linux\n')).toEqual(fromFile('timeouts: { preset: linux }\n'))
    expect(fromEnvironment({ NATLOOM_IO: 'af-packet', NATLOOM_TIMEOUTS: 'linux' }).timeouts.tcp.ESTABLISHED).toBe(
      432000,
    )
  })

  it('finds the file by NATLOOM_CONFIG, and --config wins over that', () => {
    const named = temporaryFile('a.yaml', `${INTERFACES_YAML}icmp: { errorsPerSecond: 1 }\n`)
    const given = temporaryFile('b.yaml', `${INTERFACES_YAML}icmp: { errorsPerSecond: 2 }\n`)
    const env = { NATLOOM_CONFIG: named }
    expect(loadConfig({ env }).config.icmp.errorsPerSecond).toBe(1)
    expect(loadConfig({ file: given, env }).config.icmp.errorsPerSecond).toBe(2)
  })

  it("leaves the lab's own variables alone", () => {
    expect(fromEnvironment({ NATLOOM_LAB_ANYTHING: '1', NATLOOM_FAULTS: '{}' })).toEqual(fromEnvironment({}))
  })
})

describe('forwards', () => {
  const yaml = (...entries: string[]) => `forward:\n${entries.map((entry) => `  - { ${entry} }\n`).join('')}`
  const FTP = 'proto: tcp, from: ":21", to: "10.0.0.5:21"'

  it('are the same in the file and the environment', () => {
    const file = fromFile(yaml(FTP, 'proto: udp, from: "203.0.113.1:69", to: "10.0.0.6:1069"'))
    expect(file.forward).toEqual([
      { proto: 'tcp', from: ':21', to: '10.0.0.5:21' },
      { proto: 'udp', from: '203.0.113.1:69', to: '10.0.0.6:1069' },
    ])
    const NATLOOM_FORWARD = 'tcp :21 10.0.0.5:21, udp 203.0.113.1:69 10.0.0.6:1069'
    expect(fromEnvironment({ NATLOOM_FORWARD })).toEqual(file)
  })

  it('are written in a file without quotes, too', () => {
    expect(fromFile('forward:\n  - proto: tcp\n    from: :21\n    to: 10.0.0.5:21\n').forward).toHaveLength(1)
  })

  it('may go to one server by several ports, and have one port for both protocols', () => {
    const { forward } = fromFile(
      yaml(FTP, 'proto: tcp, from: ":2121", to: "10.0.0.5:21"', 'proto: udp, from: ":21", to: "10.0.0.5:21"'),
    )
    expect(forward).toHaveLength(3)
  })

  it('of a pool may have any port, since it is NAT’s as a whole', () => {
    expect(
      fromFile(`nat: { pool: [203.0.113.16/28] }\n${yaml('proto: tcp, from: ":50000", to: "10.0.0.5:21"')}`).forward,
    ).toHaveLength(1)
  })
})

describe('helpers', () => {
  it('are names, paths of modules beside the file, or either with ports, servers and options', () => {
    const file = temporaryFile(
      'natloom.yaml',
      `${INTERFACES_YAML}helpers:
  - irc
  - ./parcel.js
  - { name: ftp, ports: [21, 2121], servers: [192.0.2.0/24, 198.51.100.7], options: { loose: true } }
  - { path: /opt/beacon.mjs, options: { depth: 3 } }
`,
    )
    expect(loadConfig({ file, env: {} }).config.helpers).toEqual([
      { module: 'irc' },
      { module: join(dirname(file), 'parcel.js') },
      { module: 'ftp', ports: [21, 2121], servers: ['192.0.2.0/24', '198.51.100.7'], options: { loose: true } },
      { module: '/opt/beacon.mjs', options: { depth: 3 } },
    ])
  })

  it('are names and paths in a variable, relative to the working directory', () => {
    expect(fromEnvironment({ NATLOOM_HELPERS: 'ftp, tftp, ./parcel.js' }).helpers).toEqual([
      { module: 'ftp' },
      { module: 'tftp' },
      { module: resolve('parcel.js') },
    ])
    expect(fromFile('helpers: [irc]\n', { NATLOOM_HELPERS: 'tftp' }).helpers).toEqual([{ module: 'tftp' }])
  })

  it('may be none', () => {
    expect(fromFile('helpers: []\n').helpers).toEqual([])
  })
})

describe('a wrong configuration', () => {
  it('is told all its problems at once', () => {
    const env = { NATLOOM_WORKERS: '0', NATLOOM_OUTSIDE: 'lan0', NATLOOM_WORKRES: '1', NATLOOM_LOG_LEVEL: 'loud' }
    expect(refused(() => fromFile('dispatch: magic\nnat: { blockSize: 1 }\nfoo: 1\n', env))).toHaveLength(7)
  })

  const LATIN1 = Buffer.from('# caf\xe9\ninside: [lan0]\n', 'latin1')
  const unreadable = [
    ['/nowhere/natloom.yaml', 'there is no such file; write it, or name another one by --config or NATLOOM_CONFIG'],
    ['/', 'it is a directory; name the file in it'],
    ['/etc/passwd/x', 'a part of its path is no directory; name another one by --config or NATLOOM_CONFIG'],
    [`/${'x'.repeat(300)}`, 'the name is too long; name another one by --config or NATLOOM_CONFIG'],
  ] as const
  for (const [file, reason] of unreadable)
    it(`that can't be read is told, and not what may stand in it: ${file.slice(0, 30)}`, () => {
      expect(() => loadConfig({ file, env: {} })).toThrow(
        `the configuration has a problem\n  ${file}: can't be read: ${reason}`,
      )
      expect(() => loadConfig({ env: { NATLOOM_CONFIG: file } })).toThrow(reason)
    })

  it('that is no text is told', () => {
    const notUtf8 = 'is no text: its bytes are not UTF-8; name a file of YAML, or save it as UTF-8'
    const zeros = 'natloom.yaml:1: is no text: it has zero bytes; name a file of YAML'
    const told = (bytes: Buffer | string) =>
      refused(() => loadConfig({ file: temporaryFile('natloom.yaml', bytes), env: {} }))
    expect(told(LATIN1)).toEqual([`natloom.yaml: ${notUtf8}`])
    expect(told('inside\0: [lan0]\n')).toEqual([zeros])
    expect(refused(() => loadConfig({ file: '', env: {} }))).toEqual([
      '--config: "" names no file; name one, or leave --config out',
    ])
  })

  it('may begin with a byte order mark, as editors of other systems write it', () => {
    const file = temporaryFile('natloom.yaml', `\ufeff${INTERFACES_YAML}`)
    expect(loadConfig({ file, env: {} }).config.inside).toEqual(['lan0'])
  })

  it('with a plan of faults that is none is refused, also by `check`', () => {
    expect(() => fromEnvironment({ NATLOOM_LAB_FAULTS: 'los=0.1' })).toThrow('there is no los, but loss, duplicate')
  })
})

describe('what is accepted and should be known', () => {
  const noticed = (env: Variables) => loadConfig({ env: { ...TWO_INTERFACES, ...env } }).notices

  it('is that ports at the ends of nat.ports are no whole block', () => {
    expect(noticed({})).toEqual([])
    expect(noticed({ NATLOOM_NAT_PORTS_FROM: '16400', NATLOOM_NAT_PORTS_TO: '60000' })).toEqual([
      "NATLOOM_NAT_PORTS_FROM: NAT doesn't use 16400-16447 and 59968-60000, which are no whole blocks of 64 ports; " +
        'set nat.ports to 16448-59967, or nat.blockSize to a smaller one',
    ])
    expect(noticed({ NATLOOM_NAT_PORTS_FROM: '16400', NATLOOM_NAT_POOL: '203.0.113.1' })).toEqual([])
  })
})
