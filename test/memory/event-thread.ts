// The writer's thread of event-ring.test.ts.

import { workerData } from 'node:worker_threads'
import { BODY, cutEvents, EVENT, EventWriter } from '../../src/memory/event-ring.ts'
import { Region } from '../../src/memory/region.ts'

export interface EventThread {
  readonly ring: SharedArrayBuffer
  readonly events: number
}

const { ring, events } = workerData as EventThread
const writer = new EventWriter(cutEvents(new Region(ring)))
for (let number = 0; number < events; number++) {
  const at = writer.begin(EVENT.flowNew, 0)
  if (at < 0) continue
  writer.records[at + BODY] = number
  writer.records[at + BODY + 15] = Math.imul(number, 0x9e3779b1)
  writer.end()
}
