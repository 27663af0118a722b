// This thread's own block of counters. Owner: this shard, the only writer.

import { counterBlock } from './counters.ts'
import { seat } from './seat.ts'

export const counters = counterBlock(seat().counters)
