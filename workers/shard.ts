// A shard's thread: attaches memory and sockets, turns until its order word says that it may not. What a turn does is
// in src/datapath/shard.ts.

import type { ShardTask } from '../src/coordinator/workers/entry-points.ts'
import { attachShard } from '../src/datapath/attach.ts'
import { run } from './run.ts'

export default (task: ShardTask): Promise<void> => run(task, attachShard)
