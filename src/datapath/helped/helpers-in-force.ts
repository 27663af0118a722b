// How a shard follows the list of helpers in force (helpers/helper-list.ts): it looks at the version once a turn, and
// imports, registers and unregisters what has changed. An import needs the event loop, so the worker's loop awaits it
// (workers/run.ts); meanwhile packets wait in their rings. What a helper should read that has failed, or that can't be
// imported here, is watched instead where its announcements must not go out as they are (watch.ts).
// Owner: this thread.

import { ENTRY, type HelperList } from '../../helpers/helper-list.ts'
import { type HelperEntry, loadHelper } from '../../helpers/load.ts'
import { noteUnavailable, registerHelper, unregisterHelper } from '../../helpers/registry.shard.ts'
import { attachRunningHelper, enterHelper, leaveHelper } from '../../helpers/running-helper.shard.ts'
import { describeThrown, thrownText } from '../../helpers/thrown.ts'
import type { Shard } from '../../memory/brand.ts'

let list: HelperList
let shard: Shard = 0
let detach: (id: number) => void = () => {}
let followed = 0
/** Numbers of the registered helpers, by the number of their load. */
const inForce = new Map<number, number>()

/** `whenUnregistered` makes connections that the helper reads go on without it. */
export function attachHelpers(shared: HelperList, ownShard: Shard, whenUnregistered: (id: number) => void): void {
  list = shared
  shard = ownShard
  detach = whenUnregistered
  followed = 0
  attachRunningHelper(list.runningWordOf(shard))
}

/** Undefined if nothing has changed, which costs one load. Never rejects: faults are reported in the list. */
export const followHelperList = (): Promise<void> | undefined => (list.version() === followed ? undefined : follow())

async function follow(): Promise<void> {
  const found = list.read()
  // The list is being written: the next turn looks again.
  if (found === undefined) return
  const listed = JSON.parse(found.text || '[]') as HelperEntry[]
  const wanted = listed.filter(({ hasFailed }) => !hasFailed)
  const unavailable = listed.filter(({ hasFailed }) => hasFailed)
  const loads = new Set(wanted.map(({ load }) => load))
  for (const [load, id] of inForce) {
    if (loads.has(load)) continue
    inForce.delete(load)
    unregisterHelper(id)
    detach(id)
  }
  const faults: string[] = []
  for (const entry of wanted) {
    if (inForce.has(entry.load)) continue
    enterHelper(entry.id, ENTRY.import)
    try {
      const { id, bindings, onFailure } = entry
      registerHelper(await loadHelper(entry), { id, bindings, onFailure })
      inForce.set(entry.load, entry.id)
    } catch (error) {
      unavailable.push(entry)
      faults.push(`${entry.name}: ${thrownText(describeThrown(error))}`)
    } finally {
      leaveHelper()
    }
  }
  noteUnavailable(unavailable.filter(({ onFailure }) => onFailure === 'reset'))
  followed = found.version
  list.report(shard, followed, faults.join('; '))
}
