// The part of `npm run bench:helpers` that runs helpers in a shard, over a driver without a kernel: one process for
// each kind of session, because a shard's tables are module-level state. Prints one JSON object.
//
//   node dist/bench/helpers-shard.js fuzz SESSION STREAMS    mutated sessions, compared with what scripts say of them
//   node dist/bench/helpers-shard.js cost                    what a packet of a helped connection costs

import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { ExpectationTable } from '../src/conntrack/expectation-table.ts'
import { HostTable } from '../src/conntrack/host-table.ts'
import { DropTable } from '../src/counters/drop-table.ts'
import { attachShard } from '../src/datapath/attach.ts'
import { HandoverRings, handoverFrameBytes } from '../src/datapath/handover/handover-rings.ts'
import type { Dataplane, ShardSettings } from '../src/datapath/shard-contract.ts'
import { dropTable, tableBytes } from '../src/datapath/shard-tables.ts'
import { BUILTIN } from '../src/helpers/builtin.ts'
import type { Helper } from '../src/helpers/helper.ts'
import { HelperList } from '../src/helpers/helper-list.ts'
import type { HelperEntry } from '../src/helpers/load.ts'
import { LoopbackDriver } from '../src/io/loopback.ts'
import { allocate, sharedMemory } from '../src/memory/region.ts'
import { Externals, SHARED, SPACES } from '../src/nat/externals.ts'
import { DEFAULT_NAT } from '../src/nat/settings.ts'
import { Fib } from '../src/routing/fib.ts'
import { parseAddress } from '../src/wire/address.ts'
import { EXTERNAL, LAN, snapshotOf, WAN } from '../test/datapath/network.ts'
import { SOLE_SHARD } from '../test/datapath/sole-shard.ts'
import { client, FTP_LOGIN, inPieces, outcomeOf, play, type Said, server } from '../test/helpers/dialogues.ts'
import {
  forwardTo,
  type GatewayScript,
  HelpedGateway,
  type Inside,
  LONGEST,
  type PacketGateway,
  PORTS,
} from '../test/helpers/gateway-script.ts'
import { faultsOf, mutated, randomOf, recut } from '../test/helpers/mutations.ts'
import { SESSIONS } from './helpers-sessions.ts'
import { put } from './helpers-spied.ts'

const BLOCK = 64
/** In pass(), virtual milliseconds between turns: long steps first, and short ones in the end for the expiry sweep. */
const STEP_MS = 30_000
const SWEEP_MS = 1300
const TURN_MS = 63

class BenchGateway implements PacketGateway {
  /** How long each turn took, in milliseconds; emptied by the caller. */
  readonly turns: number[] = []
  readonly #driver: LoopbackDriver
  readonly #shard: Dataplane
  readonly #helperList: HelperList
  #now = 1000

  static async start(inside: Inside, helper: Helper): Promise<BenchGateway> {
    const driver = new LoopbackDriver({
      ports: 2,
      slots: 64,
      scratchBytes: 8 << 20,
      sharedBytes: handoverFrameBytes(1),
    })
    const settings: ShardSettings = {
      ...SOLE_SHARD,
      externals: { capacity: 2, blockSize: BLOCK },
      nat: { ...DEFAULT_NAT, preservePorts: true, parity: false },
      portForwards: inside === 'server' ? [forwardTo(helper)] : [],
    }
    const fib = allocate((region) => new Fib(region, settings.fib))
    const externals = allocate((region) => new Externals(region, settings.externals))
    fib.view.publish(snapshotOf({}, []))
    const entry = externals.view.add(parseAddress(EXTERNAL), SHARED)
    for (let space = 0; space < SPACES; space++)
      for (let block = PORTS[0] / BLOCK; block * BLOCK < PORTS[1]; block++) externals.view.lease(entry, space, block, 0)
    const helperList = allocate((region) => new HelperList(region, 1))
    const tables = sharedMemory(tableBytes(settings))
    const memory = {
      tables,
      peers: [tables],
      fib: fib.buffer,
      externals: externals.buffer,
      handover: allocate((region) => new HandoverRings(region, 1)).buffer,
      expectations: allocate((region) => new ExpectationTable(region, { capacity: 64, shards: 1 })).buffer,
      hosts: allocate((region) => new HostTable(region, settings)).buffer,
      drops: allocate((region) => new DropTable(region, dropTable(settings))).buffer,
      helperList: helperList.buffer,
    }
    const doorbells = { watcher() {}, shard() {}, coordinator() {} }
    return new BenchGateway(driver, await attachShard(memory, settings, driver, doorbells), helperList.view)
  }

  private constructor(driver: LoopbackDriver, shard: Dataplane, helperList: HelperList) {
    this.#helperList = helperList
    this.#driver = driver
    this.#shard = shard
  }

  /** Loads a built-in helper by its name, or the helper given. */
  async help(helper: Helper | string): Promise<void> {
    const isBuiltIn = typeof helper === 'string'
    if (!isBuiltIn) put(helper)
    const { name, tuple } = isBuiltIn ? BUILTIN[helper]!() : helper
    const module = isBuiltIn ? name : fileURLToPath(new URL('./helpers-spied.js', import.meta.url))
    const bindings = [{ tuple }]
    const entry: HelperEntry = { id: 1, name, module, options: {}, bindings, onFailure: 'reset', load: 1 }
    this.#helperList.publish(JSON.stringify([entry]))
    await this.#shard.followHelpers()
  }

  inside(frame: Uint8Array, virtio: Uint8Array): Uint8Array[] {
    this.#driver.inject(LAN, frame, virtio)
    this.#turn()
    return this.toWan()
  }

  outside(frame: Uint8Array, virtio: Uint8Array): Uint8Array[] {
    this.#driver.inject(WAN, frame, virtio)
    this.#turn()
    return this.toLan()
  }

  toLan(): Uint8Array[] {
    return this.#driver.takeSent(LAN)
  }
  toWan(): Uint8Array[] {
    return this.#driver.takeSent(WAN)
  }

  pass(seconds: number): void {
    for (const until = this.#now + seconds * 1000; this.#now < until; ) {
      this.#now += until - this.#now > SWEEP_MS ? Math.min(STEP_MS, until - this.#now - SWEEP_MS) : TURN_MS
      this.#shard.turn(this.#now)
    }
  }

  #turn(): void {
    const began = performance.now()
    this.#shard.turn(this.#now)
    this.turns.push(performance.now() - began)
  }
}

async function start(name: string, inside: Inside, isHelped = true): Promise<HelpedGateway<BenchGateway>> {
  const helper = BUILTIN[name]!()
  const gateway = await BenchGateway.start(inside, helper)
  const helped = new HelpedGateway(gateway, helper, inside)
  if (isHelped) await gateway.help(helped.spied())
  return helped
}

async function fuzz(title: string, streams: number): Promise<void> {
  const { helper: name, session, inside } = SESSIONS.find((each) => each.title === title)!
  const gateway = await start(name, inside)
  const { helper } = gateway
  const isStream = helper.tuple.proto === 'tcp'
  let expected = 0
  let rewritten = 0
  const differences: string[] = []
  for (let seed = 0; seed < streams; seed++) {
    const random = randomOf(seed)
    const mutant = mutated(session, random)
    const asked = mutant.filter((_, i) => isStream || mutant.slice(0, i + 1).some(([who]) => who === 'original'))
    const dialogue = (isStream && seed % 2 === 0 ? recut(asked, random) : asked).flatMap(inSegments)
    const wire = gateway.connect()
    for (const [who, bytes] of dialogue) wire.say(who, bytes)
    const script = play(helper, dialogue, { inside, clientPort: wire.clientPort })
    const faults = faultsOf(wire)
    if (JSON.stringify(outcomeOf(wire)) !== JSON.stringify(outcomeOf(script))) faults.push('differs from its script')
    for (const fault of faults) differences.push(`${title}, seed ${seed}: ${fault}`)
    expected += wire.everExpected.length
    rewritten += wire.edits.length
    wire.close()
    gateway.gateway.turns.length = 0
  }
  console.log(JSON.stringify({ title, streams, expected, rewritten, faults: differences }))
}

const inSegments = (said: Said): Said[] =>
  inPieces(
    said,
    Array.from({ length: said[1].length / LONGEST }, () => LONGEST),
  ).filter(([, bytes]) => bytes !== '')

/** How many packets are measured, after as many that are not; each is alone in its turn of the shard. */
const TIMES = 4000
const WARM = 4000

async function cost(): Promise<void> {
  const gateway = await start('ftp', 'client', false)
  const results: Record<string, number> = {}
  const kinds: readonly (readonly [string, (i: number) => Said])[] = [
    ['a command', () => client('RETR a.txt')],
    ['a reply', () => server('200 ok')],
    ['an announcement', (i) => client(`PORT 10,0,0,5,156,${i & 63}`)],
  ]
  for (const isHelped of [false, true]) {
    // The built-in helper itself, not spied(): what scripts note down costs time, too.
    if (isHelped) await gateway.gateway.help('ftp')
    for (const [kind, said] of kinds) {
      const times = timesOf(gateway, said)
      times.sort((a, b) => a - b)
      results[`${kind}, ${isHelped ? 'helped' : 'not helped'}`] = Number((times[times.length >> 1]! * 1000).toFixed(2))
    }
  }
  console.log(JSON.stringify(results))
}

function timesOf(gateway: HelpedGateway<BenchGateway>, said: (i: number) => Said): number[] {
  const times: number[] = []
  const { turns } = gateway.gateway
  let wire: GatewayScript | undefined
  for (let i = 0; i < WARM + TIMES; i++) {
    // A new script now and then, because what a script remembers grows.
    if (i % 500 === 0) {
      wire?.close()
      wire = gateway.connect()
      for (const [who, bytes] of FTP_LOGIN) wire.say(who, bytes)
    }
    turns.length = 0
    wire!.say(...said(i))
    if (i >= WARM) times.push(turns[0]!)
  }
  wire?.close()
  return times
}

const [, , mode, title, streams] = process.argv
if (mode === 'fuzz') await fuzz(title!, Number(streams))
else await cost()
