// A proof: one command that is run again and again, on a quiet machine and beside busy loops. It must be right every
// time and leave nothing behind: no process, no network namespace. `prove:tests` and `prove:lab` are proofs (prove.ts).
//
//   what a run starts     how it is known                               when it must have ended
//   processes             a mark in their environment, new each run     with the run; those that still run are named
//   network namespaces    the id of a process in their names            with the run, if that process has ended
//   busy loops            their ids                                     with the phase, or when this process has ended

import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { besideBusyLoops } from './busy-loops.ts'

const MARK = 'NODE_PROOF_RUN'
const NETNS = '/run/netns'
/** A program is told when its starter has ended, and then needs a moment to end: seconds, on a busy machine. */
const SETTLES_WITHIN_MS = 10_000
const LOOK_EVERY_MS = 200

export interface Phase {
  readonly runs: number
  /** How many busy loops run beside each run. */
  readonly loops: number
}

export interface Proof {
  readonly command: readonly [string, ...string[]]
  readonly phases: readonly Phase[]
  /** A run that takes longer hangs: it is killed and counts as wrong. */
  readonly withinMs: number
  /** Whether to go on after a wrong run. */
  readonly keepGoing: boolean
  /** How long the processes and namespaces of a run may still be there when it has ended. */
  readonly settlesWithinMs?: number
  /** The folder that has the names of network namespaces. */
  readonly namespaces?: string
}

export interface Run {
  readonly right: boolean
  readonly loops: number
  readonly seconds: number
  /** Exit code, or the signal that ended it. */
  readonly ended: number | string
  /** The machine's load in the last minute of the run. */
  readonly load: number
  readonly leftBehind: readonly string[]
  readonly output: readonly string[]
}

const entries = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : [])
const isAlive = (pid: string): boolean => existsSync(`/proc/${pid}`)

/** Whether the process is still there that owns a namespace: `natloom-lab-123-456-lan` is owned by process 123. */
const isOwned = (namespace: string): boolean => (namespace.match(/\d+/g) ?? []).some(isAlive)

/** Processes whose environment has the mark. Those of other users can't be read, so this run hasn't started them. */
function marked(mark: string): string[] {
  return entries('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return []
    try {
      if (!readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`${MARK}=${mark}`)) return []
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
      // A zombie has no command line: it has ended, and its parent hasn't waited for it yet.
      return command === '' ? [] : [`process ${pid}: ${command.slice(0, 200)}`]
    } catch {
      return []
    }
  })
}

/** Processes and namespaces that a run must not leave behind. */
function leftovers(mark: string, before: ReadonlySet<string>, netns: string): string[] {
  const namespaces = entries(netns).filter((name) => !before.has(name) && !isOwned(name))
  return [...marked(mark), ...namespaces.map((name) => `network namespace ${name}`)]
}

/** What `look` still finds when it finds nothing more, or after so long. */
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
    const isOver = await besideBusyLoops(runs > 0 ? loops : 0, async () => {
      for (let i = 0; i < runs; i++) {
        const run = await runOnce(proof, loops, signal)
        seen(run)
        right &&= run.right
        if (!right && !proof.keepGoing) return true
      }
      return false
    })
    if (isOver) return false
  }
  return right
}
