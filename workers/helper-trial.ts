// The process that tries a user's helper (src/coordinator/helpers/helper-trial.ts): gets by message which, imports it,
// posts what it says of itself or why it is refused, and waits to be killed. If memory runs out, the kernel is to take
// this process rather than the gateway; if the gateway dies, this process dies with it.

import { writeFileSync } from 'node:fs'
import { declared, type HelperSource, type TrialMessage } from '../src/coordinator/helpers/helper-trial.ts'
import { loadHelper } from '../src/helpers/load.ts'
import { describeThrown, thrownText } from '../src/helpers/thrown.ts'
import { dieWithParent } from '../src/io/syscalls.ts'

const OOM_SCORE = '/proc/self/oom_score_adj'
const KILLED_FIRST = '1000'

const post = (message: TrialMessage): void => void process.send!(message)

process.once('disconnect', () => process.exit())
dieWithParent()
// The parent may have died before that.
if (!process.connected) process.exit()
try {
  writeFileSync(OOM_SCORE, KILLED_FIRST)
} catch {
  // Without /proc the trial is as good; only memory is watched less closely.
}
process.once('message', async (source: HelperSource) => {
  post({ kind: 'importing' })
  try {
    post({ kind: 'helper', helper: declared(await loadHelper(source)) })
  } catch (error) {
    const thrown = describeThrown(error)
    // Node tells the place of a syntax error only when it prints the error as uncaught: the parent reads it there.
    if (error instanceof SyntaxError && thrown.at === undefined)
      process.nextTick(() => {
        throw error
      })
    else post({ kind: 'refused', reason: thrownText(thrown) })
  }
})
