// This thread's own block of counters. Owner: this shard, the only writer.

import { seat } from '../memory/attached.ts'
import { counterBlock } from './counters.ts'

export const counters = counterBlock(seat().counters)
