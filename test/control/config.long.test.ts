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
      helpers: [{ module: 'ftp' }],
      timeouts: expect.objectContaining({ udpStream: 300 }),
      capacity: { connections: expect.any(Number), expectations: 4096 },
      icmp: { errorsPerSecond: 1000 },
      api: { socket: '/run/natloom/api.sock' },
      metrics: { listen: '127.0.0.1:9464' },
      log: { level: 'info', format: 'auto' },
      statePath: '/run/natloom/state.json',
    })
  })

  it('has a shard for each core but one, and at least one', () => {
    expect(fromEnvironment({}).workers).toBe(Math.min(64, Math.max(1, availableParallelism() - 1)))
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
    const file = fromFile('workers: 64\ndispatch: thread\nsupervision: { restarts: 0 }\n')
    expect(file).toMatchObject({ workers: 64, dispatch: 'thread', supervision: { restarts: 0, withinSeconds: 60 } })
    const env = { NATLOOM_WORKERS: '64', NATLOOM_DISPATCH: 'thread', NATLOOM_SUPERVISION_RESTARTS: '0' }
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

  const refusals = [
    [
      'of one port twice',
      yaml(FTP, 'proto: tcp, from: "203.0.113.1:21", to: "10.0.0.6:21"'),
      'each external port once, but tcp :21 -> 10.0.0.5:21 and tcp 203.0.113.1:21 -> 10.0.0.6:21 have the same',
    ],
    [
      'of a port of NAT’s',
      yaml('proto: tcp, from: ":20000", to: "10.0.0.5:21"'),
      'ports below nat.ports.from (16384) of an address shared with the host; ' +
        'tcp :20000 -> 10.0.0.5:21 is one of nat.ports (16384-60991)',
    ],
    [
      'of a port that the host’s own connections have',
      yaml('proto: tcp, from: ":61000", to: "10.0.0.5:21"'),
      'ports below nat.ports.from (16384) of an address shared with the host; ' +
        "tcp :61000 -> 10.0.0.5:21 is one of the host's own, which lie above nat.ports",
    ],
    [
      'of an address outside of the pool',
      `nat: { pool: [203.0.113.16/28] }\n${yaml('proto: tcp, from: "203.0.113.1:21", to: "10.0.0.5:21"')}`,
      'addresses of nat.pool, which tcp 203.0.113.1:21 -> 10.0.0.5:21 has not',
    ],
  ] as const
  for (const [what, text, allowed] of refusals)
    it(`are refused ${what}`, () => {
      const [problem, ...more] = refused(() => fromFile(text))
      expect(more).toEqual([])
      expect(problem).toMatch(/^natloom\.yaml:\d+: forward: /)
      expect(problem).toContain(`is not allowed; allowed: ${allowed}`)
    })

  it('of a pool may have any port, since it is NAT’s as a whole', () => {
    expect(
      fromFile(`nat: { pool: [203.0.113.16/28] }\n${yaml('proto: tcp, from: ":50000", to: "10.0.0.5:21"')}`).forward,
    ).toHaveLength(1)
  })

  it('name what is missing, and keys that they have not', () => {
    expect(refused(() => fromFile(yaml('proto: tcp, form: ":21", to: "10.0.0.5:21"')))).toEqual([
      'natloom.yaml:4: forward[0].from: not set; allowed: ' +
        ':PORT of every external address, or ADDRESS:PORT of one, such as :21 or 203.0.113.1:21',
      'natloom.yaml:4: forward[0].form: no such key; did you mean forward[0].from?',
    ])
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

  const NAMES = 'ftp, irc, tftp, or the path of a module, which begins with ./, ../ or /'
  const refusals = [
    ['[fpt]', `helpers[0].name: "fpt" is not allowed; allowed: ${NAMES}; did you mean ftp?`],
    ['[ftp, oscar]', `helpers[1].name: "oscar" is not allowed; allowed: ${NAMES}`],
    [
      '[{ path: parcel.js }]',
      'helpers[0].path: "parcel.js" is not allowed; allowed: the path of a module, which begins with ./, ../ or /',
    ],
    ['[{ ports: [21] }]', 'helpers[0]: {"ports":[21]} is not allowed; allowed: a name or a path, one of them'],
    [
      '[ftp, { name: ftp, ports: [2121] }]',
      'helpers: [{"name":"ftp"},{"name":"ftp","ports":[2121]}] is not allowed; allowed: each helper once',
    ],
    ['[{ name: ftp, ports: [0] }]', 'helpers[0].ports[0]: 0 is not allowed; allowed: a whole number from 1 to 65535'],
    [
      '[{ name: ftp, servers: [192.0.2.1/24] }]',
      'helpers[0].servers[0]: "192.0.2.1/24" is not allowed; allowed: ' +
        'an IPv4 address, or a prefix without bits behind its length (192.0.2.0/24)',
    ],
    ['[{ name: ftp, port: [21] }]', 'helpers[0].port: no such key; did you mean helpers[0].ports?'],
    [
      'ftp',
      'helpers: "ftp" is not allowed; allowed: a list of helpers, each a name, a path, or a mapping with one of them',
    ],
  ] as const
  for (const [text, problem] of refusals)
    it(`helpers: ${text} is refused`, () => {
      expect(refused(() => fromFile(`helpers: ${text}\n`))).toEqual([`natloom.yaml:3: ${problem}`])
    })
})

describe('a value that is not allowed, in the environment', () => {
  const INTERFACE = 'an interface name: 1 to 15 characters, no white space, "/" or ":"'
  const POOL = 'an IPv4 address, a range a-b, or a prefix without bits behind its length (203.0.113.0/28)'
  const FROM = ':PORT of every external address, or ADDRESS:PORT of one, such as :21 or 203.0.113.1:21'
  const DEPENDENCE = 'endpoint-independent, address-dependent, address-and-port-dependent'
  const LISTEN = 'address:port, such as 127.0.0.1:9464, [::1]:9464 or 0.0.0.0:9464'
  const SECONDS = 'a whole number from 1 to 1000000 (seconds)'
  const PROTOCOL =
    'igmp, ipencap, ipv6, rsvp, gre, esp, ah, ospf, pim, vrrp, l2tp, sctp, or a number from 0 to 255 but 1, 6 and 17'
  const cases = [
    // variable                         text                      value shown                 allowed
    ['NATLOOM_INSIDE', 'a-name-too-long0', '"a-name-too-long0"', INTERFACE],
    ['NATLOOM_OUTSIDE', 'eth0:1', '"eth0:1"', INTERFACE],
    ['NATLOOM_OUTSIDE', '..', '".."', INTERFACE],
    ['NATLOOM_WORKERS', '0', '0', 'a whole number from 1 to 64'],
    ['NATLOOM_WORKERS', '65', '65', 'a whole number from 1 to 64'],
    ['NATLOOM_WORKERS', 'many', '"many"', 'a whole number from 1 to 64'],
    ['NATLOOM_DISPATCH', 'magic', '"magic"', 'kernel, thread'],
    ['NATLOOM_SUPERVISION_RESTARTS', '-1', '-1', 'a whole number from 0 to 1000'],
    ['NATLOOM_SUPERVISION_WITHIN_SECONDS', '0', '0', 'a whole number from 1 to 86400 (seconds)'],
    ['NATLOOM_IO', 'tun', '"tun"', 'af-packet'],
    ['NATLOOM_IO_RING_MEGABYTES', '15', '15', 'a whole number from 16 to 512 (megabytes)'],
    ['NATLOOM_IO_RING_MEGABYTES', '16.5', '16.5', 'a whole number from 16 to 512 (megabytes)'],
    ['NATLOOM_NAT_BLOCK_SIZE', '48', '48', 'a power of two from 16 to 1024'],
    ['NATLOOM_NAT_BLOCK_SIZE', '2048', '2048', 'a whole number from 16 to 1024'],
    ['NATLOOM_NAT_POOL', '203.0.113.1/24', '"203.0.113.1/24"', POOL],
    ['NATLOOM_NAT_POOL', '203.0.113.9-203.0.113.1', '"203.0.113.9-203.0.113.1"', POOL],
    ['NATLOOM_NAT_POOL', '203.0.113.256', '"203.0.113.256"', POOL],
    ['NATLOOM_NAT_POOL', '10.0.0.0/8', '["10.0.0.0/8"]', 'at most 1024 addresses, these are 16777216'],
    ['NATLOOM_NAT_POOL', '10.0.0.1,10.0.0.0/30', '["10.0.0.1","10.0.0.0/30"]', 'each address once'],
    ['NATLOOM_FORWARD', ':21=10.0.0.5:21', '":21=10.0.0.5:21"', 'a mapping of keys to values'],
    ['NATLOOM_FORWARD', 'sctp :21 10.0.0.5:21', '"sctp"', 'tcp, udp'],
    ['NATLOOM_FORWARD', 'tcp 21 10.0.0.5:21', '"21"', FROM],
    ['NATLOOM_FORWARD', 'tcp :65536 10.0.0.5:21', '":65536"', FROM],
    ['NATLOOM_FORWARD', 'tcp :21 :21', '":21"', 'ADDRESS:PORT of a server inside, such as 10.0.0.5:21'],
    ['NATLOOM_NAT_PORTS_TO', '65535', '65535', 'a whole number from 1024 to 64511'],
    ['NATLOOM_NAT_PORTS_TO', '16446', '{"to":16446}', 'a range with at least one whole block of nat.blockSize ports'],
    ['NATLOOM_NAT_MAPPING', 'symmetric', '"symmetric"', DEPENDENCE],
    ['NATLOOM_NAT_PARITY', 'yes', '"yes"', 'true, false'],
    ['NATLOOM_NAT_PROTOCOLS', 'tcp', '"tcp"', PROTOCOL],
    ['NATLOOM_NAT_PROTOCOLS', 'gre,17', '17', PROTOCOL],
    ['NATLOOM_TIMEOUTS', 'bsd', '"bsd"', 'rfc, linux'],
    ['NATLOOM_TIMEOUTS_UDP', '0', '0', SECONDS],
    ['NATLOOM_TIMEOUTS_TCP_ESTABLISHED', '2h', '"2h"', SECONDS],
    ['NATLOOM_CAPACITY_CONNECTIONS', '1000', '1000', 'a whole number from 1024 to 16777216'],
    ['NATLOOM_METRICS_LISTEN', 'localhost:9464', '"localhost:9464"', LISTEN],
    ['NATLOOM_METRICS_LISTEN', '127.0.0.1:65536', '"127.0.0.1:65536"', LISTEN],
    ['NATLOOM_LOG_LEVEL', 'verbose', '"verbose"', 'trace, debug, info, warn, error, fatal, silent'],
    ['NATLOOM_STATE_PATH', 'state.json', '"state.json"', 'an absolute path'],
  ] as const
  for (const [variable, text, value, allowed] of cases)
    it(`${variable}=${text} is refused: ${allowed}`, () => {
      expect(refused(() => fromEnvironment({ [variable]: text }))).toEqual([
        `${variable}: ${value} is not allowed; allowed: ${allowed}`,
      ])
    })
})

describe('a mistake in the file', () => {
  const cases = [
    // after `inside: [lan0]` and `outside: [wan0]`, on lines 1 and 2
    ['workers: 99\n', 'natloom.yaml:3: workers: 99 is not allowed; allowed: a whole number from 1 to 64'],
    ['nat:\n  blocksize: 64\n', 'natloom.yaml:4: nat.blocksize: no such key; did you mean nat.blockSize?'],
    ['blockSize: 64\n', 'natloom.yaml:3: blockSize: no such key; did you mean nat.blockSize?'],
    ['mertics: {}\n', 'natloom.yaml:3: mertics: no such key; did you mean metrics?'],
    ['nat: { ports: { upper: 1 } }\n', 'natloom.yaml:3: nat.ports.upper: no such key; allowed here: from, to'],
    ['nat: 3\n', 'natloom.yaml:3: nat: 3 is not allowed; allowed: a mapping of keys to values'],
    ['timeouts: bsd\n', 'natloom.yaml:3: timeouts.preset: "bsd" is not allowed; allowed: rfc, linux'],
    [
      'nat:\n  protocols:\n    - gre\n    - tcp\n',
      expect.stringMatching(
        /^natloom.yaml:6: nat.protocols\[1\]: "tcp" is not allowed; allowed: igmp, .* but 1, 6 and 17$/,
      ),
    ],
    ['nat: [\n', expect.stringMatching(/^natloom.yaml:4: Flow sequence/)],
    ['inside: [lan1]\n', 'natloom.yaml:3: Map keys must be unique'],
  ] as const
  for (const [yaml, problem] of cases)
    it(`${JSON.stringify(yaml)} is told with its line`, () => {
      expect(refused(() => fromFile(yaml))).toEqual([problem])
    })

  it('that is no mapping at all is told', () => {
    const file = temporaryFile('natloom.yaml', '- inside\n')
    expect(refused(() => loadConfig({ file, env: TWO_INTERFACES }))).toEqual([
      'natloom.yaml:1: ["inside"] is not allowed; allowed: a mapping of keys to values',
    ])
  })

  it('that it does not exist is told, and nothing is said to be missing that may stand in it', () => {
    expect(refused(() => loadConfig({ file: '/nowhere/natloom.yaml', env: {} }))).toEqual([
      "natloom.yaml: can't be read: ENOENT",
    ])
  })
})

describe('a configuration as a whole', () => {
  it('needs interfaces on both sides', () => {
    const LIST = 'a list of one or more interface names, each once, such as [lan0]'
    expect(refused(() => loadConfig({ env: {} }))).toEqual([
      `inside: not set; set it in the file or by NATLOOM_INSIDE: ${LIST}`,
      `outside: not set; set it in the file or by NATLOOM_OUTSIDE: ${LIST}`,
    ])
  })

  it('is refused with an interface on both sides', () => {
    expect(refused(() => fromEnvironment({ NATLOOM_OUTSIDE: 'wan0,lan0' }))).toEqual([
      'NATLOOM_OUTSIDE: ["wan0","lan0"] is not allowed; ' +
        'allowed: other interfaces than inside has: lan0 is on both sides',
    ])
  })

  it('is refused with an unknown variable, which names the nearest', () => {
    expect(refused(() => fromEnvironment({ NATLOOM_NAT_BLOCKSIZE: '64' }))).toEqual([
      'NATLOOM_NAT_BLOCKSIZE: no such variable; the nearest is NATLOOM_NAT_BLOCK_SIZE',
    ])
  })

  it('is told all its problems at once', () => {
    const env = { NATLOOM_WORKERS: '0', NATLOOM_OUTSIDE: 'lan0', NATLOOM_WORKRES: '1', NATLOOM_LOG_LEVEL: 'loud' }
    expect(refused(() => fromFile('dispatch: magic\nnat: { blockSize: 1 }\nfoo: 1\n', env))).toHaveLength(7)
  })
})
