// Every key of natloom.yaml: its name, its default, and what is allowed. The environment variables (keys.ts), the check
// at the start (config.ts) and the JSON schema for editors (json-schema.ts) are derived from it. The text of an error
// always says what *is* allowed, so that it reads on after "allowed: ". Authority for defaults: RFC 4787, 5382 and 5508
// (NAT behaviour), RFC 6056 (choice of ports).

import * as z from 'zod'
import { type AddressRange, parseAddressRange } from '../coordinator/address-range.ts'
import { BUILTIN_HELPERS, isModulePath, isServer } from '../coordinator/helpers/helper-config.ts'
import { faultOfPortForwards, parseEndpoint } from '../coordinator/port-forwards.ts'
import { parseListen } from '../metrics/listen.ts'
import { PROTO_ICMP, PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import { alike, nearest } from './nearest.ts'
import { PROTOCOL_NUMBERS } from './protocols.ts'

/** The key that a section given as one word sets: `timeouts: linux` is `timeouts: { preset: linux }`. */
export const SHORTHANDS: Readonly<Record<string, string>> = { io: 'driver', timeouts: 'preset' }

/** The same for elements of a list: `helpers: [ftp, ./mine.js]` is `helpers: [{ name: ftp }, { path: ./mine.js }]`. */
export const ELEMENT_SHORTHANDS: Readonly<Record<string, (word: string) => Readonly<Record<string, string>>>> = {
  helpers: (word) => (isModulePath(word) ? { path: word } : { name: word }),
}

/** Most addresses in a pool; each takes 768 KB of address space for its port words. */
const MAX_POOL_ADDRESSES = 1024

export const MAX_WORKERS = 64

const integer = (from: number, to: number, unit = '') => {
  const allowed = `a whole number from ${from} to ${to}${unit && ` (${unit})`}`
  return z.int(allowed).min(from, allowed).max(to, allowed)
}
const seconds = () => integer(1, 1_000_000, 'seconds')
const choice = <const T extends readonly [string, ...string[]]>(...words: T) => z.enum(words, words.join(', '))
const flag = () => z.boolean('true, false')
const section = <T extends z.core.$ZodLooseShape>(shape: T) => z.strictObject(shape, 'a mapping of keys to values')

const interfaces = () => {
  const list = 'a list of one or more interface names, each once, such as [lan0]'
  const name = 'an interface name: 1 to 15 characters, no white space, "/" or ":"'
  return z
    .array(z.string(name).regex(/^(?!\.{1,2}$)[^\s/:]{1,15}$/, name), list)
    .min(1, list)
    .refine((names) => new Set(names).size === names.length, list)
}

const dependence = () => choice('endpoint-independent', 'address-dependent', 'address-and-port-dependent')

const POOL_ENTRY = 'an IPv4 address, a range a-b, or a prefix without bits behind its length (203.0.113.0/28)'
const pool = () =>
  z
    .array(
      z.string(POOL_ENTRY).refine((text) => rangeOf(text) !== undefined, POOL_ENTRY),
      'a list of addresses, ranges a-b and prefixes',
    )
    .refine((entries) => poolLimit(entries) === undefined, { error: (issue) => poolLimit(issue.input as string[]) })

function rangeOf(text: string): AddressRange | undefined {
  try {
    return parseAddressRange(text)
  } catch {
    return undefined
  }
}

/** Which limit the entries exceed together. */
function poolLimit(entries: readonly string[]): string | undefined {
  const ranges = entries.map(rangeOf).filter((range) => range !== undefined)
  ranges.sort((a, b) => a.first - b.first)
  if (ranges.some((range, i) => i > 0 && range.first <= ranges[i - 1]!.last)) return 'each address once'
  const addresses = ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0)
  return addresses > MAX_POOL_ADDRESSES ? `at most ${MAX_POOL_ADDRESSES} addresses, these are ${addresses}` : undefined
}

const FROM = ':PORT of every external address, or ADDRESS:PORT of one, such as :21 or 203.0.113.1:21'
const TO = 'ADDRESS:PORT of a server inside, such as 10.0.0.5:21'
const endpoint = (allowed: string, needsAddress: boolean) =>
  z.string(allowed).refine((text) => isEndpoint(text, needsAddress), allowed)

function isEndpoint(text: string, needsAddress: boolean): boolean {
  try {
    return parseEndpoint(text).address !== null || !needsAddress
  } catch {
    return false
  }
}

const portForwards = () =>
  z.array(
    section({
      proto: choice('tcp', 'udp').describe('tcp or udp.'),
      from: endpoint(FROM, false).describe('`:21` of every external address, `203.0.113.1:21` of one.'),
      to: endpoint(TO, true).describe('`10.0.0.5:21`, the server inside.'),
    }),
    'a list of forwards, each { proto: tcp, from: :21, to: 10.0.0.5:21 }',
  )

const PATH = 'the path of a module, which begins with ./, ../ or /'
const SERVER = 'an IPv4 address, or a prefix without bits behind its length (192.0.2.0/24)'

/** The names that are allowed and, where one is near, the name that was probably meant. */
function helperNames(written: unknown): string {
  const names = `${BUILTIN_HELPERS.join(', ')}, or ${PATH}`
  const meant = nearest(String(written), BUILTIN_HELPERS, (name) => name)
  return meant !== undefined && alike(String(written), meant) ? `${names}; did you mean ${meant}?` : names
}

const helpers = () =>
  z
    .array(
      section({
        name: z
          .string('a name')
          .refine((name) => BUILTIN_HELPERS.includes(name), { error: (issue) => helperNames(issue.input) })
          .optional()
          .describe('A built-in helper.'),
        path: z
          .string(PATH)
          .refine(isModulePath, PATH)
          .optional()
          .describe("A module of one's own; relative to the configuration file."),
        ports: z
          .array(integer(1, 65_535), 'a list of ports')
          .min(1, 'at least one port')
          .optional()
          .describe("The servers' ports, instead of the helper's own."),
        servers: z
          .array(z.string(SERVER).refine(isServer, SERVER), 'a list of addresses and prefixes')
          .min(1, 'at least one address or prefix')
          .optional()
          .describe('Only connections to these; without it, to all servers.'),
        options: z
          .record(z.string(), z.unknown(), 'a mapping of keys to values')
          .optional()
          .describe("The helper's own."),
      }).refine(({ name, path }) => (name === undefined) !== (path === undefined), 'a name or a path, one of them'),
      'a list of helpers, each a name, a path, or a mapping with one of them',
    )
    .refine((list) => new Set(list.map(({ name, path }) => name ?? path)).size === list.length, 'each helper once')

const PROTOCOL = `${Object.keys(PROTOCOL_NUMBERS).join(', ')}, or a number from 0 to 255 but 1, 6 and 17`
const WITH_PORTS: ReadonlySet<number> = new Set([PROTO_ICMP, PROTO_TCP, PROTO_UDP])
const protocol = () => {
  const number = z.int(PROTOCOL).min(0, PROTOCOL).max(255, PROTOCOL)
  return z.union(
    [z.enum(Object.keys(PROTOCOL_NUMBERS)), number.refine((number) => !WITH_PORTS.has(number), PROTOCOL)],
    PROTOCOL,
  )
}

const LISTEN = 'address:port, such as 127.0.0.1:9464, [::1]:9464 or 0.0.0.0:9464'

export const DEFAULT_API_SOCKET = '/run/natloom/api.sock'
/** unix(7): a path has 108 bytes with its terminating zero. */
const MAX_SOCKET_PATH = 107
const SOCKET = `an absolute path of at most ${MAX_SOCKET_PATH} bytes`

const shape = section({
  inside: interfaces().describe('Interfaces of the hosts behind the gateway.'),
  outside: interfaces().describe('Interfaces towards the rest of the world; translated addresses are theirs.'),
  workers: integer(1, MAX_WORKERS)
    .optional()
    .describe('Shards, each a thread that owns a part of the connections. By default one less than there are cores.'),
  dispatch: choice('kernel', 'thread')
    .default('kernel')
    .describe('Who sends a packet to the shard that owns it: the kernel, or a thread of its own, which costs a core.'),
  supervision: section({
    restarts: integer(0, 1000)
      .default(5)
      .describe('How many threads that failed are replaced before the gateway ends. 0: none.'),
    withinSeconds: integer(1, 86_400, 'seconds')
      .default(60)
      .describe('The time, in seconds, that they are counted in.'),
  })
    .prefault({})
    .describe('What becomes of a worker thread that fails: another one goes on with its connections.'),
  io: section({
    driver: choice('af-packet').default('af-packet').describe('How packets are received and sent.'),
    ringMegabytes: integer(16, 512, 'megabytes')
      .default(128)
      .describe('Memory for received packets of each interface, in megabytes.'),
    qdisc: choice('auto', 'honour', 'bypass')
      .default('auto')
      .describe("Whether sent packets pass the interface's queueing discipline; auto bypasses default ones only."),
  }).prefault({}),
  nat: section({
    pool: pool()
      .default([])
      .describe("External addresses: addresses, ranges a-b, prefixes. Empty: the outside interface's own address."),
    blockSize: integer(16, 1024)
      .refine((size) => Number.isInteger(Math.log2(size)), 'a power of two from 16 to 1024')
      .default(64)
      .describe('Ports in a block, the unit in which shards own ports. A power of two.'),
    ports: section({
      from: integer(1024, 65535).default(16384).describe('The first.'),
      to: integer(1024, 64511).default(60991).describe('The last; the host itself gets those above it.'),
    })
      .prefault({})
      .describe('Ports that NAT uses of an address that it shares with the host.'),
    mapping: dependence()
      .default('endpoint-independent')
      .describe('Which flows of an inside endpoint share an external port (RFC 4787 REQ-1).'),
    filtering: dependence()
      .default('address-dependent')
      .describe('Who outside may send to a mapped port (RFC 4787 REQ-8).'),
    preservePorts: flag()
      .default(false)
      .describe("Try the inside host's own port first instead of a random one (RFC 6056 prefers random)."),
    parity: flag().default(true).describe('Even ports stay even, odd ones odd (RFC 4787 REQ-4, for RTP).'),
    protocols: z
      .array(protocol(), 'a list of protocol names or numbers')
      .default([])
      .describe('Protocols without ports to translate, such as gre or esp.'),
    sharedWithKernelNat: flag()
      .default(false)
      .describe('The kernel masquerades on an outside interface too, and was told to stay out of nat.ports.'),
  }).prefault({}),
  forward: portForwards()
    .default([])
    .describe(
      'External ports that belong to servers inside; as a variable `tcp :21 10.0.0.5:21`, separated by commas.',
    ),
  helpers: helpers()
    .default([{ name: 'ftp' }])
    .describe('Protocols that are followed: names of helpers, paths of modules, or mappings with ports and servers.'),
  timeouts: section({
    preset: choice('rfc', 'linux')
      .default('rfc')
      .describe("What the keys beside it are by default: the RFCs' minima, or Linux's values by TCP state."),
    tcpEstablished: seconds().optional().describe('rfc 7440, linux 432000.'),
    tcpTransitory: seconds().optional().describe('While opening. rfc 240, linux 120 or 60.'),
    tcpClosing: seconds().optional().describe('After a FIN or RST. rfc 240, linux 120 to 10.'),
    udp: seconds().optional().describe('rfc 300, linux 30 one way and 120 both ways.'),
    udpDns: seconds().optional().describe('UDP to port 53: 30.'),
    icmp: seconds().optional().describe('Queries. rfc 60, linux 30.'),
    generic: seconds().optional().describe('Other protocols without ports: 600.'),
    gre: seconds().optional().describe('Before an answer: 30.'),
    greStream: seconds().optional().describe('After an answer: 180.'),
    fragment: seconds().optional().describe('The rest of a fragmented packet: 30.'),
  })
    .prefault({})
    .describe('Seconds without a packet after which a connection is forgotten.'),
  capacity: section({
    connections: integer(1024, 16_777_216)
      .optional()
      .describe('Connections tracked at most. By default a 16th of the memory, but 16384 to 262144 rows.'),
    expectations: integer(16, 16_384)
      .default(4096)
      .describe('Connections that helpers have announced and that have not come yet, at most.'),
  }).prefault({}),
  icmp: section({
    errorsPerSecond: integer(0, 1_000_000).default(1000).describe('ICMP errors that the gateway itself sends at most.'),
  }).prefault({}),
  api: section({
    socket: z
      .string(SOCKET)
      .regex(/^\/./, SOCKET)
      .refine((path) => Buffer.byteLength(path) <= MAX_SOCKET_PATH, SOCKET)
      .default(DEFAULT_API_SOCKET)
      .describe('The unix socket that the command line finds the running gateway by; only its own user may connect.'),
  }).prefault({}),
  metrics: section({
    listen: z
      .string(LISTEN)
      .refine((text) => parseListen(text) !== undefined, LISTEN)
      .default('127.0.0.1:9464')
      .describe('Where /metrics and /healthz are served.'),
  }).prefault({}),
  log: section({
    level: choice('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent').default('info'),
    format: choice('auto', 'json', 'text').default('auto').describe('auto: text on a terminal, JSON elsewhere.'),
  }).prefault({}),
  statePath: z
    .string('an absolute path')
    .regex(/^\/./, 'an absolute path')
    .default('/run/natloom/state.json')
    .describe('Where the next start finds what a killed gateway could not take back.'),
})

type Shape = z.output<typeof shape>

// These checks run even if single keys are wrong, so that all problems are reported at once; so each of them must check
// the values that it reads.
const always = () => true

export const schema = shape
  .check(
    z.refine((settings: Shape) => sharedInterface(settings) === undefined, {
      when: always,
      path: ['outside'],
      error: (issue) => `other interfaces than inside has: ${sharedInterface(issue.input as Shape)} is on both sides`,
    }),
  )
  .check(
    z.refine((settings: Shape) => holdsABlock(settings), {
      when: always,
      path: ['nat', 'ports'],
      error: 'a range with at least one whole block of nat.blockSize ports',
    }),
  )
  .check(
    z.refine((settings: Shape) => portForwardFault(settings) === undefined, {
      when: always,
      path: ['forward'],
      error: (issue) => portForwardFault(issue.input as Shape),
    }),
  )

/** Checked once each port forward is valid by itself; until then the error of that one is enough. */
function portForwardFault({ forward, nat }: Shape): string | undefined {
  const { pool, ports } = nat ?? {}
  if (!Array.isArray(forward) || !forward.every(isPortForward) || !Array.isArray(pool) || !pool.every(rangeOf))
    return undefined
  if (!Number.isInteger(ports?.from) || !Number.isInteger(ports?.to)) return undefined
  return faultOfPortForwards(forward, pool, ports)
}

const isPortForward = (forward: Partial<Shape['forward'][number]> | null): boolean =>
  (forward?.proto === 'tcp' || forward?.proto === 'udp') &&
  isEndpoint(forward.from ?? '', false) &&
  isEndpoint(forward.to ?? '', true)

function sharedInterface({ inside, outside }: Shape): string | undefined {
  if (!Array.isArray(inside) || !Array.isArray(outside)) return undefined
  return outside.find((name) => inside.includes(name))
}

function holdsABlock({ nat }: Shape): boolean {
  const { from, to } = nat?.ports ?? {}
  const size = nat?.blockSize
  if (!Number.isInteger(from) || !Number.isInteger(to) || !Number.isInteger(size)) return true
  return Math.ceil(from / size) * size + size - 1 <= to
}

/** What a user set, with the defaults that are the same on every host. */
export type Settings = z.output<typeof schema>
