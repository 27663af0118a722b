// Tries a user's helper before any shard sees it: its module is imported in a process of its own, which is killed at
// the end whatever the module does. A thread would not do: one that is inside of a system call can't be ended, and what
// it allocates outside of its heap is this process's (docs/decisions/0037).
//
//   the process                                             the trial
//   does not begin within 30 s                              fails: the host is too busy
//   posts what the helper says of itself                    succeeds
//   posts a reason, or ends                                 fails with it; of a syntax error the place is printed
//   is still importing after 5 s                            fails: an endless loop, or a wait
//   takes more memory than a shard's thread may             fails
// Never: the process outlives this one; it asks the kernel to be killed with it (workers/helper-trial.ts).
//
// A built-in helper is not tried: it is natloom's own.

import { type ChildProcess, fork } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Helper, HelperMask, HelperTuple } from '../../helpers/helper.ts'
import { type HelperEntry, loadHelper } from '../../helpers/load.ts'
import { workerFile } from '../workers/entry-points.ts'
import { HelperError } from './errors.ts'

const BEGIN_WITHIN_MS = 30_000
const IMPORT_WITHIN_MS = 5000
/** What a shard's thread may use (helpers/running-helper.shard.ts). */
const HEAP_MEGABYTES = 256
/** Resident memory of the process, of which Node itself takes about 60. */
const MOST_MEGABYTES = 512
const LOOK_EVERY_MS = 50
const PAGE_BYTES = 4096
/** Characters of what the process prints. */
const MOST_PRINTED = 1 << 16

export type HelperSource = Pick<HelperEntry, 'module' | 'options' | 'load'>

/** What a helper says of itself: plain data. */
export interface DeclaredHelper {
  readonly name: string
  readonly tuple: HelperTuple
  readonly mask?: HelperMask
  readonly classes: readonly { readonly name: string; readonly maxExpected: number; readonly timeoutSeconds: number }[]
}

/** What `workers/helper-trial.ts` posts: `importing` first, then one of the others. */
export type TrialMessage =
  | { readonly kind: 'importing' }
  | { readonly kind: 'helper'; readonly helper: DeclaredHelper }
  | { readonly kind: 'refused'; readonly reason: string }

export const declared = (helper: Helper): DeclaredHelper => {
  const { name, tuple, mask, classes, maxExpected = 1, expectTimeoutSeconds = 300 } = helper
  const only = { name: 'default', maxExpected, timeoutSeconds: expectTimeoutSeconds }
  return { name, tuple, ...(mask && { mask }), classes: classes ?? [only] }
}

/** Throws HelperError HELPER_MODULE. `signal` ends the trial. */
export async function tryHelper(source: HelperSource, signal?: AbortSignal): Promise<DeclaredHelper> {
  try {
    return isAbsolute(source.module) ? await tried(source, signal) : declared(await loadHelper(source))
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new HelperError('HELPER_MODULE', `the helper ${source.module} can't be loaded: ${reason}`, { cause: error })
  }
}

async function tried(source: HelperSource, signal: AbortSignal | undefined): Promise<DeclaredHelper> {
  if (!existsSync(source.module)) throw new Error('there is no such file')
  if (signal?.aborted) throw new Error(STOPS)
  const child = fork(workerFile('helper-trial'), {
    execArgv: [`--max-old-space-size=${HEAP_MEGABYTES}`],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    // A process group of its own, so that what the module has started is killed with it.
    detached: true,
  })
  const timers: NodeJS.Timeout[] = []
  let onAbort = (): void => {}
  try {
    return await new Promise<DeclaredHelper>((resolve, reject) => {
      const refuse = (reason: string): void => reject(new Error(reason))
      const after = (milliseconds: number, reason: () => string): void => {
        timers.push(setTimeout(() => refuse(reason()), milliseconds))
      }
      const printed = printedBy(child)
      onAbort = () => refuse(STOPS)
      signal?.addEventListener('abort', onAbort)
      after(BEGIN_WITHIN_MS, () => `the process that tries it did not begin within ${BEGIN_WITHIN_MS / 1000} s`)
      child.on('message', (message: TrialMessage) => {
        if (message.kind === 'helper') resolve(message.helper)
        else if (message.kind === 'refused') refuse(message.reason)
        else after(IMPORT_WITHIN_MS, () => tooLong(child))
      })
      timers.push(setInterval(() => residentMegabytes(child) > MOST_MEGABYTES && refuse(TOO_LARGE), LOOK_EVERY_MS))
      // A process that could not be made (no process, memory or file left) may say so more than once, and each error
      // that nobody listens to would end this process.
      child.on('error', reject)
      child.once('close', (code, killedBy) => refuse(endReason(printed(), code, killedBy)))
      // Without a file left for the channel there is none to send by.
      if (child.connected) child.send(source, (error) => error && reject(error))
    })
  } finally {
    signal?.removeEventListener('abort', onAbort)
    for (const timer of timers) clearTimeout(timer)
    kill(child)
  }
}

const STOPS = 'the gateway stops'
const TOO_LARGE = `out of memory at its top level: it takes more than ${MOST_MEGABYTES} MB`
const tooLong = (child: ChildProcess): string =>
  `an endless loop or a wait at its top level: it is still importing after ${IMPORT_WITHIN_MS / 1000} s, ` +
  `with ${Math.round(residentMegabytes(child))} MB of memory`

function kill({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended by itself, and nothing that it started is left.
  }
}

/** Its output so far. */
function printedBy({ stdout, stderr }: ChildProcess): () => string {
  let text = ''
  stdout?.resume()
  stderr?.setEncoding('utf8').on('data', (piece: string) => {
    text = (text + piece).slice(-MOST_PRINTED)
  })
  return () => text
}

function residentMegabytes({ pid }: ChildProcess): number {
  try {
    const [, resident] = readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')
    return (Number(resident) * PAGE_BYTES) / (1 << 20)
  } catch {
    // It has just ended.
    return 0
  }
}

/** Node's print of an uncaught error: place, line of the source, a caret below the column; then the error. */
const UNCAUGHT = /^((?:file:\/\/)?\/.*?)(?:\?load=\d+)?:(\d+)\n.*\n( *)(?:\^+)?\n+((?:\w*Error)\b.*)/m

/** Why the process has ended by itself. */
export function endReason(printed: string, code: number | null, killedBy: NodeJS.Signals | null): string {
  if (/heap out of memory/.test(printed)) return `out of memory at its top level: its heap is over ${HEAP_MEGABYTES} MB`
  const [, file, line, indent, error] = UNCAUGHT.exec(printed) ?? []
  if (file !== undefined) {
    const column = indent === '' ? '' : `:${indent!.length + 1}`
    return `${error} (at ${file.startsWith('file:') ? fileURLToPath(file) : file}:${line}${column})`
  }
  const how = killedBy === null ? `with exit code ${code}` : `by ${killedBy}`
  return `its import ended the process ${how}; a module must not end the process that imports it`
}
