// One shard's thread of slots-threads.ts.

import { workerData } from 'node:worker_threads'
import { viewOfValue } from '../../src/offload/bpf.ts'
import { Hops } from '../../src/offload/hops.ts'
import { NO_SLOT, Slots } from '../../src/offload/slots.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { PROTO_UDP } from '../../src/wire/ipv4.ts'
import {
  BYTES,
  DST,
  FLOWS,
  HOLDERS,
  NEW_WORDS,
  newSportOf,
  PACKETS,
  portsOf,
  REFUSED,
  SHARED,
  type SlotsThread,
  SRC,
  sportOf,
} from './slots-threads.ts'

const LIFE_MS = 0.1

const { map, shard, lives, totals } = workerData as SlotsThread
const value = viewOfValue(map)
const slots = new Slots(value, shard)
const generation = new Hops(value).generation(0)
const counts = new BigInt64Array(totals)
const [src, dst] = [parseAddress(SRC), parseAddress(DST)]
const living = new Int32Array(FLOWS).fill(NO_SLOT)

function begin(flow: number): void {
  const sport = sportOf(shard, flow)
  const slot = slots.claim(src, dst, portsOf(sport), PROTO_UDP, 0)
  if (slot === NO_SLOT) {
    Atomics.add(counts, REFUSED, 1n)
    return
  }
  if (Atomics.add(counts, HOLDERS + slot, 1n) !== 0n) Atomics.add(counts, SHARED, 1n)
  slots.translate(slot, NEW_WORDS[0], NEW_WORDS[1], portsOf(newSportOf(sport)))
  slots.renew(slot, slots.version(), 0, generation)
  slots.publish(slot, PROTO_UDP, 0, flow)
  slots.activate(slot)
  living[flow] = slot
}

function takeRested(now: number): void {
  for (let slot = slots.rested(now); slot !== NO_SLOT; slot = slots.rested(now)) {
    slots.take(slot)
    Atomics.add(counts, PACKETS, BigInt(slots.packets))
    Atomics.add(counts, BYTES, BigInt(slots.bytes))
    Atomics.sub(counts, HOLDERS + slot, 1n)
    slots.release(slot)
  }
}

const clock = (): number => Math.floor(performance.now())
const isResting = (): boolean => slots.nextOwned(0) !== NO_SLOT

for (let life = 0; life < lives; life++) {
  const flow = (life * 5) % FLOWS
  if (living[flow] === NO_SLOT) begin(flow)
  else {
    slots.free(living[flow]!, clock())
    living[flow] = NO_SLOT
  }
  // Long enough for some packets to find it.
  for (const until = performance.now() + LIFE_MS; performance.now() < until; );
  takeRested(clock())
}
for (const slot of living) if (slot !== NO_SLOT) slots.free(slot, clock())
while (isResting()) takeRested(clock())
