// The dispatcher's thread: attaches memory and sockets, turns until its order word says that it may not. What a turn
// does is in src/datapath/dispatcher.ts.

import type { DispatcherTask } from '../src/coordinator/workers/entry-points.ts'
import { attachDispatcher } from '../src/datapath/attach.ts'
import { run } from './run.ts'

export default (task: DispatcherTask): Promise<void> => run(task, attachDispatcher)
