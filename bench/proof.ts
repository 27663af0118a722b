// A proof: one command run again and again, on a quiet machine and beside busy loops, that must be right every time and leave
// nothing behind: no process, no network namespace. `prove:tests` and `prove:lab` are two such commands (prove.ts).
//
//   what a run starts           is known by                                     ends
//   its processes               a mark in their environment, a new one a run    with the run: those that live on are named
//   network namespaces          the process whose id stands in their names      with the run: others' runs go on meanwhile
//   busy loops                  their own ids                                   with the phase, or when this process is gone

import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'

const MARK = 'NODE_PROOF_RUN'
const NETNS = '/run/netns'
/** A program whose starter is gone is told so, and needs a moment to go itself: seconds, on a machine without time. */
const SETTLES_WITHIN_MS = 10_000
const LOOK_EVERY_MS = 200
const BUSY = 'const starter = process.ppid; while (process.ppid === starter) for (let i = 0; i < 1e8; i++);'

export interface Phase {
  readonly runs: number
  /** Busy loops beside each run. */
  readonly loops: number
}

export interface Proof {
  readonly command: readonly [string, ...string[]]
  readonly phases: readonly Phase[]
  /** A run that takes longer hangs: it is killed, and wrong. */
  readonly withinMs: number
  /** Whether to go on after a wrong run. */
  readonly keepGoing: boolean
  /** How long what a run has started may take to go once the run has ended. */
  readonly settlesWithinMs?: number
  /** Where the names of network namespaces are. */
  readonly namespaces?: string
}

export interface Run {
  readonly right: boolean
  readonly loops: number
  readonly seconds: number
  /** Exit code, or the signal that ended it. */
  readonly ended: number | string
  /** Of the machine at the run's end, its last minute. */
  readonly load: number
  readonly leftBehind: readonly string[]
  readonly output: readonly string[]
}

const entries = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : [])
const isAlive = (pid: string): boolean => existsSync(`/proc/${pid}`)

/** `natloom-lab-123-456-lan` is of process 123: as long as that lives, it is no leftover. */
const isOwned = (namespace: string): boolean => (namespace.match(/\d+/g) ?? []).some(isAlive)

/** Processes whose environment has the mark; those of other users can't be read, and are not ours. */
function marked(mark: string): string[] {
  return entries('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return []
    try {
      if (!readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`${MARK}=${mark}`)) return []
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
      // A zombie has no command line: whoever started it hasn't asked for its end yet.
      return command === '' ? [] : [`process ${pid}: ${command.slice(0, 200)}`]
    } catch {
      return []
    }
  })
}

/** What is there that a run must not leave. */
function leftovers(mark: string, before: ReadonlySet<string>, netns: string): string[] {
  const namespaces = entries(netns).filter((name) => !before.has(name) && !isOwned(name))
  return [...marked(mark), ...namespaces.map((name) => `network namespace ${name}`)]
}

/** What is there when all that is about to go has gone. */
async function settled(look: () => string[], withinMs: number): Promise<string[]> {
  const until = performance.now() + withinMs
  let left = look()
  while (left.length > 0 && performance.now() < until) {
    await delay(LOOK_EVERY_MS)
    left = look()
  }
  return left
}

/** Ends a process and those it started, unless they left its group. */
function kill(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  process.kill(-child.pid, 'SIGKILL')
}

/** Runs the command once, in a process group of its own. */
async function runOnce(proof: Proof, loops: number, signal: AbortSignal): Promise<Run> {
  const { command, withinMs, namespaces = NETNS, settlesWithinMs = SETTLES_WITHIN_MS } = proof
  const [program, ...args] = command
  const [mark, before, began] = [randomUUID(), new Set(entries(namespaces)), performance.now()]
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', [MARK]: mark },
    detached: true,
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  let hung = false
  const late = setTimeout(() => {
    hung = true
    kill(child)
  }, withinMs)
  const onAbort = () => kill(child)
  signal.addEventListener('abort', onAbort)
  // Not `close`: a process that was left behind holds the pipe open.
  const [code, endedBy] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
  clearTimeout(late)
  signal.removeEventListener('abort', onAbort)
  signal.throwIfAborted()
  const seconds = Math.round((performance.now() - began) / 100) / 10
  const leftBehind = await settled(() => leftovers(mark, before, namespaces), settlesWithinMs)
  const ended = hung ? `killed after ${withinMs / 1000} s` : (code ?? (endedBy as string))
  const right = ended === 0 && leftBehind.length === 0
  return {
    right,
    loops,
    seconds,
    ended,
    load: Math.round((loadavg()[0] as number) * 10) / 10,
    leftBehind,
    output: output.trimEnd().split('\n'),
  }
}

/** Runs the proof; `seen` is told of each run. Resolves with whether all were right. */
export async function prove(proof: Proof, seen: (run: Run) => void, signal: AbortSignal): Promise<boolean> {
  let right = true
  for (const { runs, loops } of proof.phases) {
    const busy = Array.from({ length: runs > 0 ? loops : 0 }, () =>
      spawn(process.execPath, ['-e', BUSY], { stdio: 'ignore' }),
    )
    try {
      for (let i = 0; i < runs; i++) {
        const run = await runOnce(proof, loops, signal)
        seen(run)
        right &&= run.right
        if (!right && !proof.keepGoing) return false
      }
    } finally {
      await Promise.all(
        busy.map((loop) => {
          const gone = once(loop, 'exit')
          return loop.kill('SIGKILL') ? gone : undefined
        }),
      )
    }
  }
  return right
}
