// A shard's thread in a replay: does what it is told (src/replay/messages.ts), and answers when it is done. No clock,
// no sockets: time and packets come by message, what was sent goes back by message.

import { parentPort, workerData } from 'node:worker_threads'
import { attachReplayShard } from '../src/datapath/un-nat/attach-replay-shard.ts'
import { PcapDriver } from '../src/io/pcap.ts'
import type { Done, Order, ReplayShard, Side } from '../src/replay/messages.ts'

const { memory, settings, driver: options } = workerData as ReplayShard
const driver = new PcapDriver(options)
const shard = await attachReplayShard(memory, settings, driver, { watcher() {}, shard() {}, coordinator() {} })
await shard.followHelpers()
let now = 0
/** There is more to do of what the present second demands. */
let more = false

const SIDES: readonly Side[] = ['inside', 'outside']

function obey(order: Order): Done {
  const isNewSecond = Math.floor(order.milliseconds / 1000) !== Math.floor(now / 1000)
  now = order.milliseconds
  // A packet never comes before the time is told, so no other order is given twice.
  if (order.what === 'time' && (isNewSecond || more)) more = shard.catchUp(now)
  if (order.what === 'play') {
    const { packet, from, outside } = order
    const mem = new DataView(packet.buffer, packet.byteOffset, packet.byteLength)
    if (from === 'inside') shard.asSentInside(mem, 0, packet.length)
    else shard.asSentOutside(mem, 0, packet.length, outside)
    driver.play(from === 'inside' ? 0 : 1, packet)
  }
  while (shard.turn(now) > 0);
  const sent: [Side, Uint8Array][] = []
  for (const port of [0, 1] as const) driver.collect(port, (frame) => sent.push([SIDES[port]!, frame]))
  return { sent, more }
}

parentPort!.on('message', (order: Order) => parentPort!.postMessage(obey(order)))
parentPort!.postMessage({ sent: [], more: false } satisfies Done)
