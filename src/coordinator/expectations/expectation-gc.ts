// Garbage collection of the expectation table (conntrack/expectation-table.ts): ends expectations whose time is over,
// whose master has ended or whose helper was unloaded, and repairs what a failed worker left half done. Shards check
// deadline and master themselves when they match; only slots and reserved ports are given back here.
//
//   left by a failed worker                  repair
//   a slot BUSY                              freed
//   a slot SETTLING or ENDING                freed, and its port's reservation given back
//   a slot CLAIMED                           PENDING again: the connection that had matched may match once more
//   a count that is too high                 lowered, once no shard was changing it
//   a reservation that no slot names         given back, once two looks agree
//   a host's count that is off               made right as the count of all is
// Each shard has a change word that is odd while it changes what is counted. No shard was changing the count if all
// words were even, and the same, before and after the slots were counted. While a shard makes a reservation, or has
// matched an expectation, no slot names the port for a moment within one turn. So a reservation is given back only if
// the port's word and the slots that name it are the same at two looks, and every shard has ended a turn in between.
//
// Owner: main thread, the only one that holds slots as COORDINATOR.

import { CONN, CONN_SHIFT, type ConnectionView } from '../../conntrack/connection-table.ts'
import {
  COORDINATOR,
  EXPECTATION,
  type ExpectationTable,
  generationOf,
  handleOf,
  held,
  holderOf,
  STATE,
  secondsLeft,
  stands,
  stateOf,
  unheld,
  WIDTH,
} from '../../conntrack/expectation-table.ts'
import { HOST, type HostRow, type HostTable } from '../../conntrack/host-table.ts'
import { CELL } from '../../counters/counters.ts'
import type { ShardMemory, ShardSettings } from '../../datapath/shard-contract.ts'
import { connectionsOf } from '../../datapath/shard-tables.ts'
import { type Externals, SPACES, VACANT } from '../../nat/externals.ts'
import { isSameWord, ofReservations, replaceContent, reservationsIn } from '../../nat/port-words.ts'
import { unreserveAt } from '../../nat/reservations.ts'

/** External addresses whose port words are read at one look: half a million words take a millisecond. */
const ENTRIES_A_LOOK = 8
const PORTS = 65536

export interface ExpectationGcOptions {
  readonly table: ExpectationTable
  readonly externals: Externals
  /** What each inside host has: of expectations, too. */
  readonly hosts: HostTable
  /** By shard. */
  readonly connections: readonly ConnectionView[]
  /** Second of the shards' clock. */
  now(): number
  /** How many turns the shard has ended. */
  turns(shard: number): number
  /** Called with the words of a slot that expired; the array is reused. */
  expired?(slot: Int32Array): void
}

/** A port with more reservations than slots that name it, as one look saw it. */
interface Leak {
  readonly word: number
  /** How many reservations no slot names. */
  readonly excess: number
  /** Handles of the slots that name the port, in the order of slots. */
  readonly names: readonly number[]
  /** By shard: turns ended until that look. */
  readonly turns: readonly number[]
}

export class ExpectationGc {
  /** Expectations ended here since the gateway's start, by cause. */
  readonly ended = { expired: 0, 'master-ended': 0, 'helper-gone': 0 }
  /** Repairs since the gateway's start. */
  readonly mended = { slot: 0, count: 0, reservation: 0 }
  readonly #options: ExpectationGcOptions
  readonly #copy = new Int32Array(WIDTH)
  /** Suspected leaks by port index. */
  readonly #leaks = new Map<number, Leak>()
  /** How many external addresses are still to be looked through, because a worker has failed. */
  #entriesLeft = 0
  #nextEntry = 0
  /** A worker has failed since what each host has was counted. */
  #mustCountHosts = false

  constructor(options: ExpectationGcOptions) {
    this.#options = options
  }

  get count(): number {
    return this.#options.table.count()
  }

  get limit(): number {
    return this.#options.table.limit()
  }

  /** To be called about once a second. */
  look(): void {
    const { table } = this.#options
    for (let slot = 0; slot < table.slots; slot++) if (stands(table.word(slot))) this.#endIfOver(slot)
    this.#correctCount()
    this.#giveBackLeaks()
    this.#findLeaks()
  }

  /** Settles the slots that a failed shard held. Its thread has exited, and no other has begun. */
  reclaim(shard: number): void {
    const { table } = this.#options
    // The dispatcher, whose number is above the shards', has no expectations.
    if (shard >= table.shards) return
    for (let slot = 0; slot < table.slots; slot++) {
      const word = table.word(slot)
      if (isHeld(word) && holderOf(word) === shard) this.#reclaimSlot(slot, word)
    }
    if ((table.changeWord(shard) & 1) !== 0) table.endChange(shard)
    this.#entriesLeft = this.#options.externals.capacity
    this.#mustCountHosts = true
  }

  /** A helper was unloaded: ends its expectations, and removes it as child helper from others'. */
  dropHelper(helper: number): void {
    const { table } = this.#options
    for (let slot = 0; slot < table.slots; slot++) {
      const word = table.word(slot)
      if (!stands(word)) continue
      const base = slot * WIDTH
      const isItsOwn = table.fields[base + EXPECTATION.helper] === helper
      if (!isItsOwn && table.fields[base + EXPECTATION.childHelper] !== helper) continue
      if (!table.change(slot, word, held(STATE.ending, generationOf(word), COORDINATOR, 0))) continue
      if (isItsOwn) this.#free(slot, 'helper-gone')
      else {
        table.fields[base + EXPECTATION.childHelper] = 0
        table.settle(slot, word)
      }
    }
  }

  #endIfOver(slot: number): void {
    const { table } = this.#options
    const word = table.word(slot)
    const cause = stands(word) ? this.#cause(slot) : undefined
    if (!cause || !table.change(slot, word, held(STATE.ending, generationOf(word), COORDINATOR, 0))) return
    // The shard may have refreshed it, or published another one in this slot, before we held the slot: look again.
    const isStill = this.#cause(slot)
    if (isStill === 'expired') this.#report(slot)
    if (isStill) this.#free(slot, isStill)
    else table.settle(slot, word)
  }

  #cause(slot: number): 'expired' | 'master-ended' | undefined {
    const { table, now, connections } = this.#options
    const base = slot * WIDTH
    if (secondsLeft(Atomics.load(table.fields, base + EXPECTATION.deadline), now()) <= 0) return 'expired'
    const row = table.fields[base + EXPECTATION.masterRow]!
    const master = connections[table.fields[base + EXPECTATION.masterShard]!]
    if (row === 0 || !master) return undefined
    const generation = Atomics.load(master.words, (row << CONN_SHIFT) + CONN.generation)
    return generation === table.fields[base + EXPECTATION.masterGeneration] ? undefined : 'master-ended'
  }

  #report(slot: number): void {
    const { table, expired } = this.#options
    this.#copy.set(table.fields.subarray(slot * WIDTH, (slot + 1) * WIDTH))
    expired?.(this.#copy)
  }

  /** Frees a slot that is held as COORDINATOR. */
  #free(slot: number, cause: keyof ExpectationGc['ended']): void {
    this.#release(slot, generationOf(this.#options.table.word(slot)))
    this.ended[cause]++
  }

  #release(slot: number, generation: number): void {
    const { table, externals, hosts } = this.#options
    const reservation = table.fields[slot * WIDTH + EXPECTATION.reservation]!
    const host = table.fields[slot * WIDTH + EXPECTATION.host]!
    table.settle(slot, unheld(STATE.free, generation))
    table.countDown(1)
    if (host !== 0) hosts.count(host - 1, HOST.expectations, -1)
    if (reservation !== 0) unreserveAt(externals, reservation - 1)
  }

  #reclaimSlot(slot: number, word: number): void {
    const { table } = this.#options
    const generation = generationOf(word)
    this.mended.slot++
    if (stateOf(word) === STATE.claimed) table.settle(slot, unheld(STATE.pending, generation))
    else if (stateOf(word) === STATE.busy) {
      // Its fields may be an earlier expectation's, so they name no reservation to give back.
      table.settle(slot, unheld(STATE.free, generation))
      table.countDown(1)
    } else this.#release(slot, generation)
  }

  #correctCount(): void {
    const { table } = this.#options
    const before = this.#changeWords()
    const count = table.count()
    let used = 0
    for (let slot = 0; slot < table.slots; slot++) if (stateOf(table.word(slot)) !== STATE.free) used++
    const counts = this.#mustCountHosts ? this.#countsByHost() : []
    const isUnchanging = before.every((word, shard) => (word & 1) === 0 && word === table.changeWord(shard))
    if (!isUnchanging) return
    for (const [row, off] of counts) this.#options.hosts.count(row, HOST.expectations, -off)
    this.#mustCountHosts = false
    if (count === used) return
    table.countDown(count - used)
    this.mended.count++
  }

  /** By row of the host table: how many more expectations it counts than there are. */
  #countsByHost(): [HostRow, number][] {
    const { table, hosts } = this.#options
    const there = new Int32Array(hosts.hosts + 1)
    for (let slot = 0; slot < table.slots; slot++) {
      const host = table.fields[slot * WIDTH + EXPECTATION.host]!
      if (host !== 0 && stateOf(table.word(slot)) !== STATE.free) there[host - 1]! += 1
    }
    return [...there.entries()]
      .map(([row, count]): [HostRow, number] => [row, hosts.sum(row, HOST.expectations) - count])
      .filter(([, off]) => off !== 0)
  }

  #changeWords(): number[] {
    const { table } = this.#options
    return Array.from({ length: table.shards }, (_, shard) => table.changeWord(shard))
  }

  #turns(): number[] {
    const { table, turns } = this.#options
    return Array.from({ length: table.shards }, (_, shard) => turns(shard))
  }

  /** After a worker has failed every external address is looked through once, a few at each look. */
  #findLeaks(): void {
    const { externals } = this.#options
    if (this.#entriesLeft === 0) return
    const names = this.#namedPorts()
    const turns = this.#turns()
    for (let i = 0; i < ENTRIES_A_LOOK && this.#entriesLeft > 0; i++, this.#entriesLeft--) {
      const entry = this.#nextEntry
      this.#nextEntry = (entry + 1) % externals.capacity
      if (externals.kindOf(entry) === VACANT) continue
      const end = (entry + 1) * SPACES * PORTS
      for (let at = entry * SPACES * PORTS; at < end; at++) {
        const word = externals.portWords[at]!
        if (reservationsIn(word) === 0) continue
        const named = names.get(at) ?? []
        const excess = reservationsIn(word) - named.length
        if (excess > 0) this.#leaks.set(at, { word, excess, names: named, turns })
      }
    }
  }

  #giveBackLeaks(): void {
    if (this.#leaks.size === 0) return
    const { portWords } = this.#options.externals
    const turns = this.#turns()
    const names = this.#namedPorts()
    for (const [at, leak] of this.#leaks) {
      const named = names.get(at) ?? []
      const excess = reservationsIn(Atomics.load(portWords, at)) - named.length
      const isAsItWas = isSameWord(Atomics.load(portWords, at), leak.word) && isSame(named, leak.names)
      if (excess <= 0) this.#leaks.delete(at)
      else if (!isAsItWas) this.#leaks.set(at, { word: Atomics.load(portWords, at), excess, names: named, turns })
      else if (leak.turns.every((ended, shard) => turns[shard]! > ended)) {
        if (!replaceContent(portWords, at, leak.word, leak.word - ofReservations(leak.excess))) continue
        this.mended.reservation += leak.excess
        this.#leaks.delete(at)
      }
    }
  }

  /** By port index: handles of the slots that name the port. */
  #namedPorts(): Map<number, number[]> {
    const { table } = this.#options
    const names = new Map<number, number[]>()
    for (let slot = 0; slot < table.slots; slot++) {
      const word = table.word(slot)
      if (stateOf(word) === STATE.free) continue
      const reservation = table.fields[slot * WIDTH + EXPECTATION.reservation]!
      if (reservation === 0) continue
      const named = names.get(reservation - 1)
      const handle = handleOf(slot, generationOf(word))
      if (named) named.push(handle)
      else names.set(reservation - 1, [handle])
    }
    return names
  }
}

/** The part of a gateway's memory (coordinator/memory.ts) that is looked at. */
export interface ExpectationMemory {
  readonly expectations: ExpectationTable
  readonly externals: Externals
  readonly hosts: HostTable
  /** By shard. */
  readonly shards: readonly ShardMemory[]
  /** By shard. */
  readonly settings: readonly ShardSettings[]
  /** By shard. */
  readonly counters: readonly Float64Array[]
}

/** For a gateway; `now` returns the second of its shards' clock, `expired` is as in the options. */
export function expectationGcOf(
  memory: ExpectationMemory,
  now: () => number,
  expired?: (slot: Int32Array) => void,
): ExpectationGc {
  const { expectations: table, externals, hosts, shards, settings, counters } = memory
  return new ExpectationGc({
    table,
    externals,
    hosts,
    connections: shards.map(({ tables }, shard) => connectionsOf(tables, settings[shard]!)),
    now,
    turns: (shard) => counters[shard]![CELL.turns]!,
    ...(expired && { expired }),
  })
}

const isHeld = (word: number): boolean => stateOf(word) !== STATE.free && !stands(word)

const isSame = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((handle, i) => handle === b[i])
