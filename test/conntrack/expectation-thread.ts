// One shard's thread of the expectation model (expectation-threads.ts): random operations on the table that all share,
// each held against the ledger. May be crashed at any fault point; then the next life goes on with its memory.

import { workerData } from 'node:worker_threads'
import { CONN, CONN_WORDS } from '../../src/conntrack/connection-table.ts'
import {
  EXPECTATION,
  ExpectationTable,
  generationIn,
  generationOf,
  handleOf,
  INACTIVE,
  PERMANENT,
  portReserved,
  STATE as SLOT,
  slotOf,
  stands,
  stateOf,
  WIDTH,
} from '../../src/conntrack/expectation-table.ts'
import type { Draft } from '../../src/conntrack/expectations.shard.ts'
import { attach } from '../../src/memory/attached.ts'
import { Region } from '../../src/memory/region.ts'
import { Externals, portOfIndex, TCP_SPACE } from '../../src/nat/externals.ts'
import {
  ASLEEP,
  CLAIMANT,
  CONNECTIONS,
  DONE,
  EPOCH,
  EXPECTATIONS,
  EXTERNALS,
  type ExpectationThread,
  ledgerAt,
  OVER,
  STATE,
  shardWord,
  TURNS,
  type Violation,
  violationWord,
} from './expectation-threads.ts'

const data = workerData as ExpectationThread
const { shard, shards, epoch } = data
const unused = new Region()
attach({
  ...{
    packetMemory: new ArrayBuffer(0),
    mappings: unused,
    permissions: unused,
    sequences: unused,
    gone: unused,
    events: unused,
    capacity: CONNECTIONS,
    mappingCapacity: 1,
  },
  counters: new Region(data.counters),
  connections: new Region(data.connections),
})
const { connections, hot, recoverConnections } = await import('../../src/conntrack/connections.shard.ts')
const table = {
  ...(await import('../../src/conntrack/expectation-slots.shard.ts')),
  ...(await import('../../src/conntrack/expectations.shard.ts')),
  ...(await import('../../src/conntrack/expectation-matching.shard.ts')),
}
const ports = {
  ...(await import('../../src/nat/ports.shard.ts')),
  ...(await import('../../src/nat/blocks.shard.ts')),
}
const { reserveFor, reserveTaken, unreserveAt } = await import('../../src/nat/reservations.ts')
const { reservationsIn } = await import('../../src/nat/port-words.ts')
const { setClock } = await import('../../src/memory/clock.ts')
const { attachHashKey } = await import('../../src/memory/siphash.ts')
const { attachRandom } = await import('../../src/memory/random.ts')

const externals = new Externals(new Region(data.externals), EXTERNALS)
const slots = new ExpectationTable(new Region(data.table), { capacity: EXPECTATIONS, shards })
const ledger = new Int32Array(data.ledger)
const holders = new Int32Array(data.holders)
const state = new Int32Array(data.state)
const myself = (shard + 1) | ((epoch & 0xff) << 8)

/** Endpoints that expectations are about: few, so that they meet. */
const PORTS = 24
const SOURCES = [11, 12, 13] as const
const KEY = 6 | (1 << 8)
const MASTERS = 6
const CLASSES = 2
const MAX_EXPECTED = [2, 5] as const
const MOST_PORTS = 12

let seed = data.seed
/** 0 .. bound-1 (xorshift). */
function draw(bound: number): number {
  seed ^= seed << 13
  seed ^= seed >>> 17
  seed ^= seed << 5
  return (seed >>> 0) % bound
}
const oneIn = (count: number): boolean => draw(count) === 0

const violated = (what: Violation): number => Atomics.add(state, violationWord(what), 1)

attachHashKey(1, 2)
attachRandom(shard, epoch)
setClock(Atomics.load(state, STATE.second) * 1000)
ports.attachPorts(externals, shard, shards)
table.attachExpectations(slots, shard, epoch, (at) => unreserveAt(externals, at))
if (epoch > 1) {
  recoverConnections()
  ports.recoverPorts(new Set())
  table.recoverExpectations()
}
ports.followLeases()

/** What this life has announced, to be done something with. */
const announced: { draft: Draft; handle: number }[] = []
/** Ports that connections have, and for which announcement they were reserved. */
const taken: { at: number; serial: number }[] = []
const masters: number[] = []
for (let row = 1; row <= connections.highest; row++) if (connections.isLive(row)) masters.push(row)

const generationOfRow = (row: number): number => hot[row * CONN_WORDS + CONN.generation]!

function begin(): void {
  const row = connections.begin()
  if (row === 0) return
  hot[row * CONN_WORDS + CONN.origSrc] = shard
  hot[row * CONN_WORDS + CONN.origPorts] = row
  hot[row * CONN_WORDS + CONN.state] = 6
  connections.commit(row)
  masters.push(row)
}

/** As a connection ends: first its row, then what it expects. */
function endMaster(): void {
  const at = draw(masters.length)
  const row = masters[at]!
  const generation = generationOfRow(row)
  masters[at] = masters.at(-1)!
  masters.pop()
  connections.retire(row)
  table.endMaster(row, generation)
}

function announce(): void {
  const row = masters[draw(masters.length)]!
  const serial = Atomics.add(state, STATE.serial, 1) + 1
  const kind = draw(CLASSES)
  let reservation = 0
  if (oneIn(2)) {
    const at = reserveFor(externals, { owner: draw(shards), entry: 0, space: TCP_SPACE }, draw(65_536), {
      preservePorts: oneIn(2),
      parity: oneIn(2),
    })
    if (at < 0) {
      table.refuseExpectation('no-port')
      return
    }
    holders[at] = serial
    reservation = at + 1
  }
  const draft: Draft = {
    ...{ key: KEY, src: SOURCES[draw(SOURCES.length)]!, srcMask: oneIn(3) ? 0 : -1, srcPort: oneIn(4) ? 20 : 0 },
    ...{ dst: 1, dstPort: 1 + draw(PORTS), savedAddress: serial, savedPort: 1 + draw(8), class: kind },
    ...{ flags: (oneIn(8) ? PERMANENT : 0) | (oneIn(8) ? INACTIVE : 0), helper: 1 + draw(3), childHelper: draw(4) },
    ...{ maxExpected: MAX_EXPECTED[kind]!, timeout: 1 + draw(5), direction: draw(2) as 0 | 1, reservation },
    ...{ masterRow: row, masterGeneration: generationOfRow(row) },
  }
  publish(draft)
}

function publish(draft: Draft): void {
  const handle = table.expect(draft)
  if (handle === 0) return
  // Nobody else can activate it.
  if ((draft.flags & INACTIVE) !== 0) Atomics.or(ledger, ledgerAt(handle), ASLEEP)
  announced.push({ draft, handle })
  if (announced.length > 64) announced.shift()
  if (oneIn(8)) countClass(draft)
}

/** Only this shard announces for its masters, so more can't come meanwhile. */
function countClass({ masterRow, masterGeneration, class: kind, maxExpected }: Draft): void {
  let count = 0
  for (let slot = 0; slot < slots.slots; slot++) {
    const word = slots.word(slot)
    if (!stands(word) && stateOf(word) !== SLOT.claimed) continue
    const base = slot * WIDTH
    const { fields } = slots
    if (
      fields[base + EXPECTATION.masterShard] === shard &&
      fields[base + EXPECTATION.masterRow] === masterRow &&
      fields[base + EXPECTATION.masterGeneration] === masterGeneration &&
      fields[base + EXPECTATION.class] === kind &&
      generationOf(slots.word(slot)) === generationOf(word) &&
      stateOf(slots.word(slot)) !== SLOT.free
    )
      count++
  }
  if (count > maxExpected) violated('more than its class may have')
}

/** The same once more. */
function refresh(): void {
  const one = announced[draw(announced.length)]!
  const { draft, handle } = one
  if (generationOfRow(draft.masterRow) !== draft.masterGeneration || !connections.isLive(draft.masterRow)) return
  if (draft.reservation !== 0 && !reserveTaken(externals, draft.reservation - 1, () => table.isStanding(handle))) return
  if (draft.reservation === 0 && !table.isStanding(handle)) return
  // The slot is again what it was announced as, active or not.
  Atomics.and(ledger, ledgerAt(handle), ~ASLEEP)
  const again = table.expect(draft)
  if (again === 0) return
  one.handle = again
  if ((draft.flags & INACTIVE) !== 0) Atomics.or(ledger, ledgerAt(again), ASLEEP)
}

function claim(): void {
  const source = SOURCES[draw(SOURCES.length)]!
  const [sourcePort, port] = [oneIn(2) ? 20 : 21, 1 + draw(PORTS)]
  if (table.expectCount() === 0) return
  const handle = table.claim(KEY, source, 1, sourcePort | (port << 16))
  if (handle === 0) return
  const at = ledgerAt(handle)
  own(at)
  const wanted = table.field(handle, 'dstPort')
  const mask = table.field(handle, 'srcMask')
  if (wanted !== port || (mask !== 0 && table.field(handle, 'src') !== source))
    violated('claimed and not what was asked for')
  const serial = table.field(handle, 'savedAddress')
  const reservation = table.field(handle, 'reservation')
  const isPortIts = (): boolean =>
    holders[reservation - 1] === serial && reservationsIn(Atomics.load(externals.portWords, reservation - 1)) > 0
  if (reservation !== 0 && !isPortIts()) violated('a port that is not reserved for it')
  if (table.isPermanent(handle) || oneIn(3)) {
    disown(at)
    table.putBack(handle)
    return
  }
  table.consume(handle)
  Atomics.or(ledger, at, OVER)
  disown(at)
  if (reservation === 0) return
  const isOurs = externals.ownerOfBlock(0, TCP_SPACE, Math.floor(portOfIndex(reservation - 1) / 64)) === shard
  if (isOurs && taken.length < MOST_PORTS) {
    if (ports.takeReserved(portReserved(reservation))) taken.push({ at: reservation - 1, serial })
    else violated('a port that could not be taken')
  }
  unreserveAt(externals, reservation - 1)
}

/** Nobody else has it, unless he is dead. */
function own(at: number): void {
  for (;;) {
    const word = Atomics.load(ledger, at)
    const before = word & CLAIMANT
    if (before !== 0 && isAlive(before)) violated('claimed by two')
    if ((word & OVER) !== 0) violated('claimed when it was over')
    if ((word & ASLEEP) !== 0) violated('claimed when it was inactive')
    if (Atomics.compareExchange(ledger, at, word, (word & ~CLAIMANT) | myself) === word) return
  }
}

const disown = (at: number): number => Atomics.and(ledger, at, ~CLAIMANT)

const isAlive = (claimant: number): boolean =>
  (Atomics.load(state, shardWord((claimant & 0xff) - 1, EPOCH)) & 0xff) === claimant >>> 8

function withdraw(): void {
  const { handle } = announced[draw(announced.length)]!
  if (table.withdraw(handle)) Atomics.or(ledger, ledgerAt(handle), OVER)
}

function activate(): void {
  const { handle } = announced[draw(announced.length)]!
  const at = ledgerAt(handle)
  if (oneIn(2)) {
    Atomics.and(ledger, at, ~ASLEEP)
    table.activate(handle, true)
  } else if (table.activate(handle, false)) Atomics.or(ledger, at, ASLEEP)
}

/** Two masters' slots that one packet matches, in force at the same time: both words are the same before and after. */
function lookForOverlap(): void {
  const [source, port] = [SOURCES[draw(SOURCES.length)]!, 1 + draw(PORTS)]
  const inForce: { handle: number; word: number; master: string }[] = []
  for (let slot = 0; slot < slots.slots; slot++) {
    const word = slots.word(slot)
    const base = slot * WIDTH
    const { fields } = slots
    if (stateOf(word) !== SLOT.pending || fields[base + EXPECTATION.dstPort] !== port) continue
    if (fields[base + EXPECTATION.srcMask] !== 0 && fields[base + EXPECTATION.src] !== source) continue
    if (fields[base + EXPECTATION.srcPort] !== 0) continue
    const words = [EXPECTATION.masterShard, EXPECTATION.masterRow, EXPECTATION.masterGeneration]
    const master = words.map((word) => fields[base + word]!).join()
    inForce.push({ handle: handleOf(slot, generationOf(word)), word, master })
  }
  // All words were read before the first is read again: those that haven't changed were in force together.
  const still = inForce.filter(({ handle, word }) => slots.word(slotOf(handle)) === word && generationIn(handle) > 0)
  if (new Set(still.map(({ master }) => master)).size > 1) violated('in force for two masters')
}

function givePortBack(): void {
  const { at, serial } = taken.pop()!
  if (holders[at] !== serial) violated('a port that is not reserved for it')
  ports.freePort(at)
}

function operate(): void {
  const what = draw(32)
  if (masters.length === 0 || (masters.length < MASTERS && oneIn(4))) begin()
  else if (what < 10) announce()
  else if (what < 20) claim()
  else if (what < 22 && announced.length > 0) refresh()
  else if (what < 24 && announced.length > 0) withdraw()
  else if (what < 26 && announced.length > 0) activate()
  else if (what === 26) endMaster()
  else if (what < 29 && taken.length > 0) givePortBack()
  else lookForOverlap()
}

const done = shardWord(shard, DONE)
while (state[done]! < data.operations) {
  setClock(Atomics.load(state, STATE.second) * 1000)
  operate()
  if ((state[done]! & 63) === 0) ports.endQuarantine()
  Atomics.add(state, done, 1)
  Atomics.add(state, shardWord(shard, TURNS), 1)
}
while (taken.length > 0) givePortBack()
Atomics.add(state, STATE.ended, 1)
process.exit(0)
