// Shards in threads of their own begin and end flows in one map, while the program in the kernel translates packets of
// theirs: no slot is ever two shards', no packet is translated by fields of two flows, and none is lost from the
// counts.

import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { expect, it } from 'vitest'
import { close } from '../../src/io/syscalls.ts'
import { createSharedValue, loadProgram, testRun, viewOfValue } from '../../src/offload/bpf.ts'
import { Hops } from '../../src/offload/hops.ts'
import { bucketsFor, valueBytes } from '../../src/offload/layout.ts'
import { offloadProgram, REDIRECT } from '../../src/offload/program.ts'
import { prepareValue } from '../../src/offload/slots.ts'
import { frame } from '../../src/testing/builder.ts'
import {
  BYTES,
  DPORT,
  DST,
  FLOWS,
  HOLDERS,
  newSportOf,
  PACKETS,
  REFUSED,
  SHARED,
  type SlotsThread,
  SPORT,
  SRC,
} from './slots-threads.ts'

const THREAD = fileURLToPath(new URL('../../dist/test/offload/slots-thread.js', import.meta.url))
const SHARDS = 2
const LIVES = 4000
/** Fewer than there are lives within the time that slots rest, so that some are refused. */
const SLOTS = 64
const ZEROS = '00:00:00:00:00:00'
/** Packets between two looks at whether the threads have ended. */
const ROUND = 200

const packet = (sport: number): Uint8Array =>
  frame({ eth: { src: ZEROS, dst: ZEROS }, ip: { src: SRC, dst: DST }, udp: { sport, dport: DPORT }, payload: 'a' })
const sportIn = (bytes: Uint8Array): number => (bytes[34]! << 8) | bytes[35]!

it('keeps slots and counts of several shards apart, and each translation whole', async () => {
  const buckets = bucketsFor(SLOTS)
  const options = { seed: 0xabcdef, buckets }
  const map = createSharedValue('natloom_test', valueBytes(buckets))
  const value = viewOfValue(map)
  prepareValue(value, options)
  new Hops(value).set(0, { interfaceIndex: 1, mtu: 1500, own: new Uint8Array(6), neighbour: new Uint8Array(6) })
  const program = loadProgram('natloom_test', offloadProgram({ map: map.fd, side: 0, ...options }).code)
  const totals = new SharedArrayBuffer(8 * (HOLDERS + SLOTS))
  const ended = Array.from({ length: SHARDS }, (_, shard) => {
    const workerData: SlotsThread = { map, shard, lives: LIVES, totals }
    const worker = new Worker(THREAD, { workerData })
    return new Promise<void>((resolve, reject) => worker.once('error', reject).once('exit', () => resolve()))
  })
  let running = true
  const all = Promise.all(ended).finally(() => {
    running = false
  })
  const packets = Array.from({ length: SHARDS * FLOWS }, (_, i) => packet(SPORT + i))
  let [sent, bytes] = [0, 0]
  while (running) {
    for (let i = 0; i < ROUND; i++) {
      const which = packets[(i * 7) % packets.length]!
      const { verdict, frame: left } = testRun(program, which)
      if (verdict !== REDIRECT) continue
      sent++
      bytes += left.length - 14
      expect(sportIn(left)).toBe(newSportOf(sportIn(which)))
    }
    await new Promise(setImmediate)
  }
  await all
  close(program)
  close(map.fd)
  const counts = new BigInt64Array(totals)
  expect([counts[PACKETS], counts[BYTES]]).toEqual([BigInt(sent), BigInt(bytes)])
  expect(counts[SHARED]).toBe(0n)
  expect([...counts.subarray(HOLDERS)].every((holders) => holders === 0n)).toBe(true)
  expect(sent).toBeGreaterThan(0)
  expect(counts[REFUSED]).toBeGreaterThan(0n)
})
