// Processes that do nothing but take processor time, so that what runs beside them is seldom run at once. They are
// ended by their ids, and end by themselves when their starter has ended.

import { spawn } from 'node:child_process'
import { once } from 'node:events'

const BUSY = 'const starter = process.ppid; while (process.ppid === starter) for (let i = 0; i < 1e8; i++);'

/** Runs something beside so many busy loops. */
export async function besideBusyLoops<T>(loops: number, work: () => Promise<T>): Promise<T> {
  const busy = Array.from({ length: loops }, () => spawn(process.execPath, ['-e', BUSY], { stdio: 'ignore' }))
  try {
    return await work()
  } finally {
    await Promise.all(
      busy.map((loop) => {
        const gone = once(loop, 'exit')
        return loop.kill('SIGKILL') ? gone : undefined
      }),
    )
  }
}
