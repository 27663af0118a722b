// All shards' connections as the API lists them: which shard has each, and which shard owns it by the ownership rule.

import { describe, expect, it } from 'vitest'
import { CONN, CONN_WORDS } from '../../../src/conntrack/connection-table.ts'
import { keyWord, portsWord } from '../../../src/conntrack/terms.ts'
import { loadConfig } from '../../../src/control/config.ts'
import { type Connection, connectionList } from '../../../src/coordinator/api/connection-list.ts'
import { allocateMemory, type GatewayMemory } from '../../../src/coordinator/memory.ts'
import { connectionsOf } from '../../../src/datapath/shard-tables.ts'
import { LIVE } from '../../../src/memory/rows.ts'
import { SHARED, TCP_SPACE } from '../../../src/nat/externals.ts'
import { parseAddress } from '../../../src/wire/address.ts'

const CLIENT = parseAddress('10.0.0.2')
const SERVER = parseAddress('203.0.113.2')
const GATEWAY = parseAddress('203.0.113.1')
const TCP = 6
const GRE = 47
const SHARDS = 3
/** The second of the shards' clock at which the list is made. */
const SECOND = 100

function memoryOf(connections = 1024 * SHARDS): GatewayMemory {
  const env = { NATLOOM_CONFIG: '/dev/null', NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0' }
  const { config } = loadConfig({ env: { ...env, NATLOOM_CAPACITY_CONNECTIONS: String(connections) } })
  const memory = allocateMemory({ ...config, workers: SHARDS })
  const entry = memory.externals.add(GATEWAY, SHARED)
  for (let block = 256; block < 953; block++) memory.externals.lease(entry, TCP_SPACE, block, block % SHARDS)
  return memory
}

/** Puts rows into a shard's table as its owner would. */
function connect(memory: GatewayMemory, shard: number, protocol: number, ports: number, replyPorts: number): void {
  const { words } = connectionsOf(memory.shards[shard].tables, memory.settings[shard])
  let row = 1
  while (words[row * CONN_WORDS + CONN.generation] !== 0) row++
  words[row * CONN_WORDS + CONN.origSrc] = CLIENT
  words[row * CONN_WORDS + CONN.origDst] = SERVER
  words[row * CONN_WORDS + CONN.origPorts] = ports
  words[row * CONN_WORDS + CONN.replySrc] = SERVER
  words[row * CONN_WORDS + CONN.replyDst] = GATEWAY
  words[row * CONN_WORDS + CONN.replyPorts] = replyPorts
  words[row * CONN_WORDS + CONN.state] = keyWord(protocol, 0) | LIVE
  words[row * CONN_WORDS + CONN.lastSeen] = SECOND
  words[row * CONN_WORDS + CONN.timeout] = 240
  words[row * CONN_WORDS + CONN.generation] = 2
}

async function listed(memory: GatewayMemory): Promise<{ pieces: string[]; connections: Connection[] }> {
  const pieces: string[] = []
  for await (const piece of connectionList(memory, () => SECOND)) pieces.push(piece)
  return { pieces, connections: JSON.parse(pieces.join('')) }
}

describe('the list of connections', () => {
  it('is an empty array while there are none', async () => {
    expect((await listed(memoryOf())).pieces.join('')).toBe('[]\n')
  })

  it('has one a line, of every shard', async () => {
    const memory = memoryOf()
    for (let shard = 0; shard < SHARDS; shard++) connect(memory, shard, TCP, portsWord(5000, 80), portsWord(80, 20000))
    const { pieces, connections } = await listed(memory)
    expect(connections.map(({ shard }) => shard)).toEqual([0, 1, 2])
    expect(pieces.join('').split('\n')).toHaveLength(SHARDS + 3)
  })

  it('names the owner of either direction: of an answer it is who leases the block of its port', async () => {
    const memory = memoryOf()
    const blocks = [300, 301, 302]
    for (const block of blocks) connect(memory, 0, TCP, portsWord(5000, 80), portsWord(80, block * 64 + 5))
    const { connections } = await listed(memory)
    expect(connections.map(({ reply }) => reply.owner)).toEqual(blocks.map((block) => block % SHARDS))
    const owners = new Set(connections.map(({ original }) => original.owner))
    expect(owners.size).toBe(1)
  })

  it('names ports where a protocol has some, and a mapping where there is one', async () => {
    const memory = memoryOf()
    connect(memory, 1, GRE, 0, 0)
    const [gre] = (await listed(memory)).connections
    expect(gre.original).toEqual({
      source: '10.0.0.2',
      destination: '203.0.113.2',
      packets: 0,
      bytes: 0,
      owner: gre.reply.owner,
    })
    expect(gre).toMatchObject({ shard: 1, protocol: GRE, origin: 'inside', timeout: 240, mapping: null })
    expect(gre).not.toHaveProperty('state')
  })

  it('names the helper that reads a connection, and the master of one that was expected', async () => {
    const memory = memoryOf()
    connect(memory, 0, TCP, portsWord(5000, 21), portsWord(21, 20000))
    connect(memory, 1, TCP, portsWord(20, 20001), portsWord(5001, 20))
    connect(memory, 2, TCP, portsWord(20, 20002), portsWord(5002, 20))
    connectionsOf(memory.shards[0]!.tables, memory.settings[0]!).cold.helper[1] = 4
    for (const [shard, generation] of [
      [1, 2],
      [2, 4],
    ] as const) {
      const { cold } = connectionsOf(memory.shards[shard]!.tables, memory.settings[shard]!)
      cold.masterShard[1] = 0
      cold.masterRow[1] = 1
      cold.masterGeneration[1] = generation
    }
    const pieces: string[] = []
    const name = (id: number) => (id === 4 ? 'ftp' : undefined)
    for await (const piece of connectionList(memory, () => SECOND, name)) pieces.push(piece)
    const connections: Connection[] = JSON.parse(pieces.join(''))
    const original = { source: '10.0.0.2', destination: '203.0.113.2', sourcePort: 5000, destinationPort: 21 }
    expect(connections.map(({ helper, master }) => [helper, master])).toEqual([
      ['ftp', undefined],
      [undefined, { shard: 0, row: 1, original }],
      [undefined, { shard: 0, row: 1, original: null }],
    ])
  })

  it('comes in pieces of a bounded size, with a turn of the event loop between any two', async () => {
    const memory = memoryOf(6000)
    for (let i = 0; i < 1500; i++) connect(memory, 2, TCP, portsWord(5000 + i, 80), portsWord(80, 20000 + i))
    let turns = 0
    let counting = true
    const turn = () => {
      turns++
      if (counting) setImmediate(turn)
    }
    setImmediate(turn)
    const { pieces, connections } = await listed(memory)
    counting = false
    expect(connections).toHaveLength(1500)
    expect(Math.max(...pieces.map((piece) => piece.split('\n').length))).toBeLessThanOrEqual(513)
    expect(turns).toBeGreaterThanOrEqual(pieces.length)
  })
})
