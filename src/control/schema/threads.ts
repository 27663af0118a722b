// Threads and how packets reach them: the keys `workers`, `dispatch`, `supervision` and `io`.

import { FEWEST_RING_MEGABYTES, MOST_WORKERS } from '../../coordinator/memory-plan.ts'
import { choice, integer, section } from './values.ts'

export const workers = integer(1, MOST_WORKERS)
  .optional()
  .describe('Shards, each a thread that owns a part of the connections. By default one less than there are cores.')

export const dispatch = choice('kernel', 'thread')
  .default('kernel')
  .describe('Who sends a packet to the shard that owns it: the kernel, or a thread of its own, which costs a core.')

export const supervision = section({
  restarts: integer(0, 1000)
    .default(5)
    .describe('How many threads that failed are replaced before the gateway ends. 0: none.'),
  withinSeconds: integer(1, 86_400, 'seconds').default(60).describe('The time, in seconds, that they are counted in.'),
})
  .prefault({})
  .describe('What becomes of a worker thread that fails: another one goes on with its connections.')

export const io = section({
  driver: choice('af-packet').default('af-packet').describe('How packets are received and sent.'),
  ringMegabytes: integer(FEWEST_RING_MEGABYTES, 512, 'megabytes')
    .default(128)
    .describe('Memory for received packets of each interface, in megabytes.'),
  qdisc: choice('auto', 'honour', 'bypass')
    .default('auto')
    .describe("Whether sent packets pass the interface's queueing discipline; auto bypasses default ones only."),
}).prefault({})
