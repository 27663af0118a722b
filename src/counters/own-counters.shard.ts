// This thread's own block of counters. Owner: this shard, the only writer.

import { attached } from '../memory/attached.ts'
import { counterBlock } from './counters.ts'

export const counters = counterBlock(attached().counters)
