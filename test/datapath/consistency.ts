// The shard's tables held against each other: connections, their index, mappings, permissions, ports, queues, gauges.
// Rows are the truth; everything else must follow from them.

import { CONN, CONN_WORDS, KEY_MASK } from '../../src/conntrack/connection-table.ts'
import { HOST, type HostWord } from '../../src/conntrack/host-table.ts'
import { MAPPING, MAPPING_REMOTE_PORT_SHIFT, MAPPING_WORDS } from '../../src/conntrack/mapping-table.ts'
import { PERMISSION, PERMISSION_WORDS } from '../../src/conntrack/permission-table.ts'
import { WINDOW, WINDOW_WORDS } from '../../src/conntrack/tcp-window-table.ts'
import { type CELL, protocolCell } from '../../src/counters/counters.ts'
import { DROP_REASONS } from '../../src/counters/drop-reasons.ts'
import { SPACES, spaceOf, VACANT } from '../../src/nat/externals.ts'
import { isHostBound, isMapped, isTaken, wasFreed } from '../../src/nat/port-words.ts'
import { formatAddress } from '../../src/wire/address.ts'
import { type Connection, connectionsOf, type Mapping, mappingsOf, rowsOf, type Tables } from './tables.ts'

type Counter = (key: keyof typeof CELL, cell?: number) => number

const PORTS = 65536
const TCP = 6
const UDP = 17
const CELLS = [0, 1, 2, 3]

/** What doesn't fit together, in words; empty as it should be. */
export function inconsistencies(tables: Tables, counter: Counter, shard = 0): string[] {
  const live = connectionsOf(tables)
  const mappings = mappingsOf(tables)
  return [
    ...indexFaults(tables, live),
    ...timeoutFaults(tables, live),
    ...mappings.flatMap((mapping) => mappingFaults(tables, mapping, live)),
    ...permissionFaults(tables, live),
    ...portFaults(tables, mappings, counter, shard),
    ...blockFaults(tables, counter, shard),
    ...queueFaults(tables, live),
    ...freeableFaults(tables, mappings, live),
    ...gaugeFaults(live, mappings, counter),
    ...hostFaults(tables, live, mappings, shard),
    ...dropFaults(tables, counter, shard),
  ]
}

function indexFaults({ connections, tuple }: Tables, live: readonly Connection[]): string[] {
  const { hot, connectionIndex } = connections
  const faults: string[] = []
  const seen = new Set<string>()
  for (const { row, original, reply, origin, protocol } of live) {
    for (const [direction, name] of [original, reply].entries()) {
      const at = row * CONN_WORDS + (direction === 0 ? CONN.origSrc : CONN.replySrc)
      const [src, dst, ports] = [hot[at]!, hot[at + 1]!, hot[at + 2]!]
      const key = (hot[row * CONN_WORDS + CONN.state]! ^ (direction << 8)) & KEY_MASK
      const found = connections.findConnection(key, src, dst, ports, tuple.hashTuple(key, src, dst, ports))
      if (found !== ((row << 1) | direction)) faults.push(`connection ${row} isn't found by ${name}`)
      const unique = `${protocol} ${origin ^ direction} ${name}`
      if (seen.has(unique)) faults.push(`two connections have the tuple ${unique}`)
      seen.add(unique)
    }
  }
  const refs = connectionIndex.cells.filter((ref, i) => i % 2 === 1 && ref !== 0).length
  if (refs !== live.length * 2) faults.push(`the index has ${refs} entries for ${live.length} connections`)
  const taken = connections.connections.used
  if (taken !== live.length) faults.push(`${taken} rows of connections are taken, ${live.length} live`)
  return faults
}

/** The state says how long a connection may be silent. */
const timeoutFaults = ({ track }: Tables, live: readonly Connection[]): string[] =>
  live.flatMap(({ row, timeout }) =>
    track.timeoutOf(row) === timeout ? [] : [`connection ${row} lives ${timeout} s, should ${track.timeoutOf(row)}`],
  )

/** True if the connection's inside end has sent. */
const hasSent = ({ origin, seenReply }: Connection): boolean => origin === 0 || seenReply
/** True if the inside end has taken part in the connection: it has sent, or announced it. */
const holds = (connection: Connection): boolean => hasSent(connection) || connection.expected

function mappingFaults({ mappings }: Tables, { row, ...found }: Mapping, live: readonly Connection[]): string[] {
  const own = live.filter(({ mapping }) => mapping === row)
  const at = (word: number): number => mappings.mapping[row * MAPPING_WORDS + word]!
  const ports = at(MAPPING.ports)
  const remote = [at(MAPPING.remoteAddress), at(MAPPING.flags) >>> MAPPING_REMOTE_PORT_SHIFT] as const
  const byInside = mappings.findByInside(found.protocol, at(MAPPING.insideAddress), ports & 0xffff, ...remote)
  const byExternal = mappings.findByExternal(found.protocol, at(MAPPING.externalAddress), ports >>> 16)
  const faults: string[] = []
  const expect = (what: string, is: unknown, shouldBe: unknown): void => {
    if (is !== shouldBe) faults.push(`mapping ${row} (${found.external}): ${what} is ${is}, should be ${shouldBe}`)
  }
  expect('rows', found.rows, own.length)
  expect('holders', found.holders, own.filter(holds).length)
  if (!found.ended) expect('holders > 0', found.holders > 0, true)
  expect('found by its inside end', byInside === row, !found.ended && !found.second)
  expect('found by its external end', byExternal === row, !found.ended)
  return faults
}

function permissionFaults(
  { permissions: { permissions }, connections: { cold } }: Tables,
  live: readonly Connection[],
) {
  const faults: string[] = []
  const counts = new Map<number, number>()
  for (const connection of live) {
    const permission = cold.permission[connection.row]!
    const should = hasSent(connection) && connection.mapping !== 0
    if ((permission !== 0) !== should) faults.push(`connection ${connection.row} has permission ${permission}`)
    if (permission !== 0) counts.set(permission, (counts.get(permission) ?? 0) + 1)
  }
  const rows = rowsOf(permissions.words, PERMISSION_WORDS, PERMISSION.flags)
  for (const row of rows) {
    const count = permissions.words[row * PERMISSION_WORDS + PERMISSION.count]
    if (count !== (counts.get(row) ?? 0)) faults.push(`permission ${row} counts ${count}, has ${counts.get(row)}`)
  }
  if (rows.length !== counts.size) faults.push(`${rows.length} permissions, ${counts.size} referred to`)
  return faults
}

/** The ports whose words say that a mapping has them are those of the mappings, each of one. */
function portFaults({ externals }: Tables, mappings: readonly Mapping[], counter: Counter, shard: number): string[] {
  const faults: string[] = []
  const wanted = new Set(
    mappings.map(({ entry, protocol, port }) => externals.portIndex(entry, spaceOf(protocol), port)),
  )
  if (wanted.size !== mappings.length) faults.push('two mappings have one port')
  const used = [0, 0, 0]
  for (const at of mappedPorts(externals)) {
    const lessee = lesseeOf(externals, at)
    if (lessee >= 0 && lessee !== shard) continue
    if (!wanted.delete(at)) faults.push(`port ${at % PORTS} is taken and nobody's`)
    used[Math.floor(at / PORTS) % SPACES]! += 1
  }
  for (const at of wanted) faults.push(`port ${at % PORTS} of a mapping isn't taken`)
  for (const [space, count] of used.entries())
    if (counter('portsUsed', space) !== count)
      faults.push(`gauge of used ports in space ${space}: ${counter('portsUsed', space)}, should be ${count}`)
  return faults
}

const hasReserved = ({ blockSize, portWords }: Tables['externals'], index: number): boolean =>
  portWords
    .subarray(index * blockSize, (index + 1) * blockSize)
    .some((word) => isHostBound(word) || (isTaken(word) && !isMapped(word)))

/** What is counted of the blocks that the shard leases is what their ports' words say. */
function blockFaults({ externals, blocks, quarantine }: Tables, counter: Counter, shard: number): string[] {
  const faults: string[] = []
  const { blockSize, blocksPerSpace, portWords } = externals
  const { usableIn, isListed, isRead } = blocks
  // Many thousand words, after every packet of some tests: nothing is looked up in the loop.
  const isUsed = isMapped
  const isInQuarantine = wasFreed
  let quarantinedInAll = 0
  for (let space = 0; space < SPACES; space++) {
    let leased = 0
    let inQuarantine = 0
    for (let entry = 0; entry < externals.capacity; entry++)
      for (let block = 0; block < blocksPerSpace; block++) {
        const index = externals.blockIndex(entry, space, block)
        const isOurs = externals.ownerOfBlock(entry, space, block) === shard
        if (isRead(index) && !isOurs) faults.push(`block ${index} is counted, and not ours`)
        if (isOurs) leased += blockSize
        // A block that nobody has needed yet counts as usable.
        if (!isRead(index)) {
          if (isListed(index) !== isOurs) faults.push(`block ${index} is ours: ${isOurs}, listed: ${!isOurs}`)
          continue
        }
        const usable = usableIn(index)
        // What reservations name and what is the host's can't be given: a block may have left the list because of them.
        const isRight = isListed(index) === usable > 0 || (usable > 0 && hasReserved(externals, index))
        if (!isRight) faults.push(`block ${index} is listed or not, with ${usable} usable ports`)
        const end = (index + 1) * blockSize
        let should = 0
        for (let at = index * blockSize; at < end; at++) {
          if (isUsed(portWords[at]!)) continue
          if (isInQuarantine(portWords[at]!)) inQuarantine++
          else should++
        }
        if (usable !== should) faults.push(`block ${index}: ${usable} counted as usable, should be ${should}`)
      }
    quarantinedInAll += inQuarantine
    for (const [key, should] of [['portsLeased', leased] as const, ['portsResting', inQuarantine] as const])
      if (counter(key, space) !== should)
        faults.push(`gauge ${key}[${space}]: ${counter(key, space)}, should be ${should}`)
  }
  // More are in the queue if some were given meanwhile, or their blocks have gone.
  if (quarantine.quarantined() < quarantinedInAll)
    faults.push(`${quarantine.quarantined()} ports in quarantine, should be ${quarantinedInAll}`)
  return faults
}

function lesseeOf(externals: Tables['externals'], at: number): number {
  const list = Math.floor(at / PORTS)
  return externals.ownerOfBlock(
    Math.floor(list / SPACES),
    list % SPACES,
    Math.floor((at % PORTS) / externals.blockSize),
  )
}

function mappedPorts(externals: Tables['externals']): number[] {
  const taken: number[] = []
  // Two hundred thousand words, after every packet of some tests: nothing is looked up in the loop.
  const { portWords } = externals
  const isUsed = isMapped
  for (let entry = 0; entry < externals.capacity; entry++) {
    if (externals.kindOf(entry) === VACANT) continue
    const end = (entry + 1) * SPACES * PORTS
    for (let at = entry * SPACES * PORTS; at < end; at++) if (isUsed(portWords[at]!)) taken.push(at)
  }
  return taken
}

const CLOSED_STATES = ['LAST_ACK', 'TIME_WAIT', 'CLOSE']
const HALF_CLOSED_STATES = ['FIN_WAIT', 'CLOSE_WAIT']

/** The kind of queue that a connection should be in. */
function kindOf(connection: Connection): 'none' | 'closed' | 'unassured' | 'half-closed' | 'renewable' {
  const { protocol, state, assured, mapping } = connection
  if (protocol === TCP && CLOSED_STATES.includes(state)) return 'closed'
  if (!assured) return 'unassured'
  if (protocol === UDP && mapping === 0 && isUnasked(connection)) return 'renewable'
  return protocol === TCP && HALF_CLOSED_STATES.includes(state) ? 'half-closed' : 'none'
}

function queueFaults({ connections, queues }: Tables, live: readonly Connection[]): string[] {
  const { windows } = connections
  const faults: string[] = []
  const queued = new Map<number, number>()
  for (let queue = 1; queue < queues.QUEUES; queue++) {
    let length = 0
    for (let row = queues.oldest(queue), last = 0; row !== 0; last = row, row = queues.nextInQueue(row)) {
      length++
      if (windows[row * WINDOW_WORDS + WINDOW.queuePrevious] !== last)
        faults.push(`row ${row} in queue ${queue} has a wrong predecessor`)
      if (queued.has(row)) return [...faults, `row ${row} is in two queues`]
      queued.set(row, queue)
    }
    if (queues.lengthOf(queue) !== length) faults.push(`queue ${queue} says that ${length} rows are in it wrongly`)
  }
  for (const connection of live) {
    const queue = queued.get(connection.row) ?? 0
    if (queues.queueOf(connection.row) !== queue) faults.push(`row ${connection.row} believes itself in another queue`)
    const kinds = new Map([
      [queues.CLOSED, 'closed'],
      [queues.UNASSURED, 'unassured'],
      [queues.HALF_CLOSED, 'half-closed'],
      [queues.RENEWABLE, 'renewable'],
    ])
    const kind = kinds.get(queues.kindOf(queue)) ?? 'none'
    const should = kindOf(connection)
    if (kind !== should) faults.push(`row ${connection.row} is in queue ${kind}, should be ${should}`)
    if (queue !== 0 && (queue !== queues.kindOf(queue)) !== isUnasked(connection))
      faults.push(`row ${connection.row} is in the queue of the other side`)
    queued.delete(connection.row)
  }
  for (const row of queued.keys()) faults.push(`dead row ${row} is in a queue`)
  const unasked = live.filter(isUnasked).length
  if (connections.openedUnasked !== unasked)
    faults.push(`${connections.openedUnasked} connections opened from outside are counted, there are ${unasked}`)
  return faults
}

/** Opened from outside, and announced by nobody inside. */
const isUnasked = ({ origin, expected }: Connection): boolean => origin === 1 && !expected

/** A TCP mapping stands among those whose port can be had as soon as none of its connections is in use any more. */
function freeableFaults({ freeable, externals }: Tables, mappings: readonly Mapping[], live: readonly Connection[]) {
  const faults: string[] = []
  const classes = new Map([
    [freeable.SOLE_CLOSED, 'sole closed'],
    [freeable.SOLE_UNASSURED, 'sole unassured'],
    [freeable.SEVERAL, 'several'],
  ])
  const listed = new Map<number, string>()
  for (let entry = 0; entry < externals.capacity; entry++)
    for (const [number, name] of classes)
      for (let row = freeable.oldestFreeable(entry, number); row !== 0; row = freeable.nextFreeable(row)) {
        if (listed.has(row)) return [...faults, `mapping ${row} is listed twice`]
        listed.set(row, name)
        if (mappings.find((mapping) => mapping.row === row)?.entry !== entry)
          faults.push(`mapping ${row} is listed with another address than its own`)
      }
  for (const { row, protocol } of mappings) {
    const kinds = live.filter(({ mapping }) => mapping === row).map(kindOf)
    const isFreeable = protocol === TCP && kinds.every((kind) => kind === 'closed' || kind === 'unassured')
    const should = isFreeable ? (kinds.length > 1 ? 'several' : `sole ${kinds[0]}`) : 'none'
    const is = listed.get(row) ?? 'none'
    if (is !== should) faults.push(`mapping ${row} is listed as ${is}, should be ${should}`)
    if ((classes.get(freeable.freeableAs(row)) ?? 'none') !== is)
      faults.push(`mapping ${row} believes itself in another class`)
    listed.delete(row)
  }
  for (const row of listed.keys()) faults.push(`mapping ${row}, which is gone, is listed`)
  return faults
}

function gaugeFaults(live: readonly Connection[], mappings: readonly Mapping[], counter: Counter): string[] {
  const faults: string[] = []
  const gauge = (key: keyof typeof CELL, cell: number, should: number): void => {
    if (counter(key, cell) !== should) faults.push(`gauge ${key}[${cell}]: ${counter(key, cell)}, should be ${should}`)
  }
  for (const cell of CELLS) {
    gauge('connections', cell, live.filter(({ protocol }) => protocolCell(protocol) === cell).length)
    gauge('mappings', cell, mappings.filter(({ protocol }) => protocolCell(protocol) === cell).length)
    const over = counter('connectionsInserted', cell) - counter('connectionsExpired', cell)
    gauge('connections', cell, over)
  }
  return faults
}

/** What interfaces have dropped for a reason, all together, is what is counted by the reason. */
function dropFaults({ dropTable }: Tables, counter: Counter, shard: number): string[] {
  const byInterface = (reason: number): number =>
    Array.from(
      { length: dropTable.ports },
      (_, port) => dropTable.packets[dropTable.classOf(shard, port, reason)]!,
    ).reduce((sum, packets) => sum + packets, 0)
  return DROP_REASONS.flatMap(([name], reason) =>
    byInterface(reason) === counter('drops', reason)
      ? []
      : [`${name}: ${byInterface(reason)} dropped by interface, ${counter('drops', reason)} in all`],
  )
}

/** What the host table says of a shard's connections, mappings and ports in quarantine is what there is. */
function hostFaults(
  { hosts, quarantine }: Tables,
  live: readonly Connection[],
  mappings: readonly Mapping[],
  shard: number,
) {
  const faults: string[] = []
  const counted = (row: number, word: HostWord): number => hosts.counts[hosts.line(row, shard) + word]!
  const addressOf = (endpoint: string): string => endpoint.split(':')[0]!
  const inAll = (word: HostWord): number =>
    Array.from({ length: hosts.hosts + 1 }, (_, row) => counted(row, word)).reduce((sum, count) => sum + count, 0)
  const insideOf = ({ origin, original, reply }: Connection): string => addressOf(origin === 0 ? original : reply)
  const held: readonly (readonly [HostWord, readonly string[], string])[] = [
    [HOST.connections, live.map(insideOf), 'connections'],
    [HOST.ports, mappings.map(({ inside }) => addressOf(inside)), 'mappings'],
  ]
  for (const [word, owners, what] of held) {
    if (inAll(word) !== owners.length) faults.push(`hosts have ${inAll(word)} ${what}, should be ${owners.length}`)
    for (let row = 0; row < hosts.hosts; row++) {
      const host = formatAddress(hosts.names[row]!)
      const most = owners.filter((owner) => owner === host).length
      // Less, if some were counted with the hosts that have no row.
      const others = counted(hosts.others, word)
      if (counted(row, word) < 0 || counted(row, word) > most || counted(row, word) + others < most)
        if (hosts.names[row] !== 0) faults.push(`${host} has ${counted(row, word)} ${what}, should be ${most}`)
      if (hosts.names[row] === 0 && counted(row, word) !== 0) faults.push(`row ${row} of nobody has ${what}`)
    }
  }
  // Whose the ports were that a dead shard had in quarantine is not known.
  if (inAll(HOST.resting) > quarantine.quarantined()) faults.push('hosts have ports in quarantine that are not there')
  return faults
}
