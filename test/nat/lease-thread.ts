// One shard's thread of the lease model (lease-threads.ts): takes ports, names ports in reservations, takes those,
// gives all of it back, and claims each in the common table, where another's claim would be found.

import { workerData } from 'node:worker_threads'
import { attach } from '../../src/memory/attached.ts'
import { Region } from '../../src/memory/region.ts'
import { Externals, SPACES } from '../../src/nat/externals.ts'
import type { PortChoice } from '../../src/nat/settings.ts'
import { type LeaseThread, OPTIONS, STATE } from './lease-threads.ts'

const data = workerData as LeaseThread
const unused = new Region()
attach({
  ...{
    packetMemory: new ArrayBuffer(0),
    connections: unused,
    mappings: unused,
    permissions: unused,
    sequences: unused,
    gone: unused,
    events: unused,
    capacity: 1,
    mappingCapacity: 1,
  },
  counters: new Region(data.counters),
})
const ports = {
  ...(await import('../../src/nat/ports.shard.ts')),
  ...(await import('../../src/nat/blocks.shard.ts')),
}
const { reserveFor, unreserveAt } = await import('../../src/nat/reservations.ts')
const { setClock } = await import('../../src/memory/clock.ts')
const { attachHashKey } = await import('../../src/memory/siphash.ts')

const externals = new Externals(new Region(data.externals), OPTIONS)
const claims = new Int32Array(data.claims)
const names = new Int32Array(data.names)
const bound = new Int32Array(data.bound)
const state = new Int32Array(data.state)
const own = data.shard + 1
const MOST_HELD = 700

let seed = data.seed
/** 0 .. bound-1 (xorshift). */
function draw(bound: number): number {
  seed ^= seed << 13
  seed ^= seed >>> 17
  seed ^= seed << 5
  return (seed >>> 0) % bound
}

const choice = (): PortChoice => ({ preservePorts: draw(4) === 0, parity: draw(2) === 0 })

attachHashKey(data.seed, 0x5eed)
ports.attachPorts(externals, data.shard, data.shards, () => Atomics.add(state, STATE.requests, 1))
// From now on freed ports are in quarantine long enough to be seen, and short enough that there are free ones.
let now = 1_000_000
setClock(now)
ports.followLeases()

const held: { readonly space: number; readonly port: number }[] = []
const named: { readonly space: number; readonly port: number }[] = []

function claim(space: number, port: number): void {
  const at = externals.portIndex(0, space, port)
  if (Atomics.compareExchange(claims, at, 0, own) !== 0 || Atomics.load(names, at) !== 0)
    Atomics.add(state, STATE.violations, 1)
  held.push({ space, port })
}

/** A port must not be given that the host has had a socket on since before the giving began. */
function checkBound(at: number, began: number): void {
  const since = Atomics.load(bound, at)
  if (since !== 0 && since < began) Atomics.add(state, STATE.violations, 1)
}

function giveBack(at: number): void {
  const { space, port } = held[at]!
  held[at] = held.at(-1)!
  held.pop()
  if (Atomics.compareExchange(claims, externals.portIndex(0, space, port), own, 0) !== own)
    Atomics.add(state, STATE.violations, 1)
  ports.freePort(externals.portIndex(0, space, port))
}

function name(space: number, port: number): void {
  const at = externals.portIndex(0, space, port)
  Atomics.add(names, at, 1)
  if (Atomics.load(claims, at) !== 0) Atomics.add(state, STATE.violations, 1)
  named.push({ space, port })
}

function unname({ space, port }: { readonly space: number; readonly port: number }): void {
  Atomics.sub(names, externals.portIndex(0, space, port), 1)
  unreserveAt(externals, externals.portIndex(0, space, port))
}

/** With nothing taken, named, in quarantine or the host's, all ports of a block of ours may be given, no others. */
function countUnlisted(): number {
  let unlisted = 0
  for (let space = 0; space < SPACES; space++)
    for (let block = 0; block < externals.blocksPerSpace; block++) {
      const index = externals.blockIndex(0, space, block)
      const isOurs = externals.ownerOfBlock(0, space, block) === data.shard
      if (ports.isOurs(index) !== isOurs || ports.isListed(index) !== isOurs) unlisted += externals.blockSize
      else if (isOurs) unlisted += externals.blockSize - ports.usableIn(index)
    }
  return unlisted
}

function operate(): void {
  const space = draw(SPACES)
  switch (draw(8)) {
    case 0:
    case 1:
    case 2: {
      const began = Atomics.load(state, STATE.tick)
      const port = held.length < MOST_HELD ? ports.takePort(0, space, draw(65_536), choice()) : -1
      if (port < 0) break
      checkBound(externals.portIndex(0, space, port), began)
      claim(space, port)
      break
    }
    case 3: {
      // What expects a connection gives it the port that was reserved, in one step.
      const last = named.at(-1)
      if (held.length >= MOST_HELD || !last || !ports.takeReserved(externals.portIndex(0, last.space, last.port))) break
      named.pop()
      unname(last)
      claim(last.space, last.port)
      break
    }
    case 4: {
      const owner = draw(data.shards)
      const began = Atomics.load(state, STATE.tick)
      const at = named.length < 20 ? reserveFor(externals, { owner, entry: 0, space }, draw(65_536), choice()) : -1
      if (at < 0) break
      checkBound(at, began)
      name(space, at % 65_536)
      break
    }
    case 5: {
      const last = named.pop()
      if (last) unname(last)
      break
    }
    default:
      if (held.length > 0) giveBack(draw(held.length))
  }
}

for (let i = 0; i < data.operations; i++) {
  operate()
  if (i % 16 === 0) ports.followLeases()
  if (i % 256 === 0) {
    now += 1000
    setClock(now)
    ports.endQuarantine()
  }
}
while (held.length > 0) giveBack(0)
for (const one of named) unname(one)
Atomics.add(state, STATE.done, data.operations)
Atomics.add(state, STATE.ended, 1)
Atomics.wait(state, STATE.quiet, 0)
ports.followLeases()
// Past every rest; what it is in words, another shard's clock may have said.
setClock(now + 3_000_000)
ports.endQuarantine()
Atomics.add(state, STATE.unlisted, countUnlisted())
