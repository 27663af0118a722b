// What becomes of workers, and what their threads report, in the gateway's log. Threads post reports as messages
// (entry-points.ts), which any module in a thread can do as well, so nothing is taken for granted of a message.

import type { Logger } from 'pino'
import type { Report } from '../../datapath/shard-contract.ts'
import type { WorkerMessage } from './entry-points.ts'
import type { SupervisorOptions } from './supervisor.ts'

export type WorkersLog = Pick<SupervisorOptions, 'heard' | 'replacing' | 'replaced'>

const LEVELS: readonly string[] = ['info', 'warn', 'error'] satisfies Report['level'][]

/** `helpers`: which shards could not load which helper (helpers/helper-manager.ts). */
export const workersLog = (log: Logger, helpers: { faults(): readonly string[] }): WorkersLog => ({
  heard: (message) => logReport(log, message),
  replacing: (failure) => {
    if (failure.helper === undefined) log.error(failure, 'a worker has failed: another one takes its place')
    else
      log.error(failure, 'a helper has failed: it is unloaded, and another worker takes the place of the one it kept')
  },
  replaced: (worker) => {
    log.info(worker, 'the worker is replaced')
    for (const fault of helpers.faults()) log.error({ fault }, 'a helper could not be loaded again')
  },
})

/** Logs the message if it is a report. */
function logReport(log: Logger, message: unknown): void {
  const { report } = (message ?? {}) as Partial<WorkerMessage>
  if (typeof report !== 'object' || report === null) return
  const { level, text, detail } = report
  if (LEVELS.includes(level)) log[level](detail, String(text))
}
