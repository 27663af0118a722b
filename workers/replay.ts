// A shard's thread in a replay: carries out an order (src/replay/messages.ts) and answers when it is done. It has
// neither a clock nor sockets: time and packets come by message, and frames that were sent go back by message.

import { parentPort, workerData } from 'node:worker_threads'
import { attachReplayShard } from '../src/datapath/un-nat/attach-replay-shard.ts'
import { PcapDriver } from '../src/io/pcap.ts'
import type { Done, Order, ReplayShard, SideName } from '../src/replay/messages.ts'

const { memory, settings, driver: options } = workerData as ReplayShard
const driver = new PcapDriver(options)
const shard = await attachReplayShard(memory, settings, driver, { watcher() {}, shard() {}, coordinator() {} })
await shard.followHelpers()
let now = 0
/** More is over by the present second than could be ended in one call. */
let more = false

const SIDES: readonly SideName[] = ['inside', 'outside']

function obey(order: Order): Done {
  const isNewSecond = Math.floor(order.milliseconds / 1000) !== Math.floor(now / 1000)
  now = order.milliseconds
  // Only orders of this kind are repeated: the main thread tells the time before it plays a packet.
  if (order.what === 'time' && (isNewSecond || more)) more = shard.catchUp(now)
  if (order.what === 'play') {
    const { packet, from, outside } = order
    const mem = new DataView(packet.buffer, packet.byteOffset, packet.byteLength)
    if (from === 'inside') shard.asSentInside(mem, 0, packet.length)
    else shard.asSentOutside(mem, 0, packet.length, outside)
    driver.play(from === 'inside' ? 0 : 1, packet)
  }
  while (shard.turn(now) > 0);
  const sent: [SideName, Uint8Array][] = []
  for (const port of [0, 1] as const) driver.collect(port, (frame) => sent.push([SIDES[port]!, frame]))
  return { sent, more }
}

parentPort!.on('message', (order: Order) => parentPort!.postMessage(obey(order)))
parentPort!.postMessage({ sent: [], more: false } satisfies Done)
