// A proof of small commands: each run is judged by its end and by what it leaves, and the busy loops end with it.

import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Proof, prove, type Run } from '../../bench/proof.ts'
import { testFolder } from '../leftovers.ts'

let folder: string
beforeEach(() => {
  folder = testFolder('proof')
  mkdirSync(namespaces())
})
afterEach(() => rmSync(folder, { recursive: true }))

const never = new AbortController().signal
const HANGS_AFTER_MS = 600_000
/** Where a run must leave nothing is known at once here. */
const SETTLES_WITHIN_MS = 300
const namespaces = () => join(folder, 'netns')

/** Proves a shell script that finds the folder of network namespaces in $1, and one for itself in $2. */
async function proving(script: string, more: Partial<Proof> = {}, signal = never) {
  const runs: Run[] = []
  const command = ['sh', '-c', script, 'script', namespaces(), folder] as const
  const proof = { command, phases: [{ runs: 3, loops: 0 }], withinMs: HANGS_AFTER_MS, keepGoing: false, ...more }
  const right = await prove(
    { ...proof, namespaces: namespaces(), settlesWithinMs: SETTLES_WITHIN_MS },
    (run) => runs.push(run),
    signal,
  )
  return { right, runs }
}

/** Busy loops that this process has started. */
function busyLoops(): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      const parent = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ')[1]
      return parent === String(process.pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('starter')
    } catch {
      return false
    }
  })
}

describe('a proof', () => {
  it('is right if every run is, and keeps what each wrote', async () => {
    const { right, runs } = await proving('echo to one; echo to other >&2')
    expect(right).toBe(true)
    expect(runs).toHaveLength(3)
    for (const run of runs) {
      expect(run).toMatchObject({ right: true, ended: 0, loops: 0, leftBehind: [] })
      expect(run.output.toSorted()).toEqual(['to one', 'to other'])
    }
  })

  it('ends with the first wrong run', async () => {
    const { right, runs } = await proving('if ! mkdir "$2/second" 2> /dev/null; then exit 7; fi')
    expect(right).toBe(false)
    expect(runs.map(({ ended }) => ended)).toEqual([0, 7])
  })

  it('goes on after a wrong run if told so', async () => {
    const { right, runs } = await proving('exit 7', { keepGoing: true })
    expect(right).toBe(false)
    expect(runs.map(({ ended }) => ended)).toEqual([7, 7, 7])
  })

  it('kills a run that hangs', async () => {
    const { right, runs } = await proving('sleep 1000 & wait', { withinMs: 300 })
    expect(right).toBe(false)
    expect(runs).toEqual([expect.objectContaining({ ended: 'killed after 0.3 s', leftBehind: [] })])
  })

  it('has busy loops beside its runs, and none afterwards', async () => {
    const counted: number[] = []
    const phases = [
      { runs: 1, loops: 0 },
      { runs: 1, loops: 2 },
    ]
    const command = ['sh', '-c', 'sleep 0.3'] as const
    const proof: Proof = { command, phases, withinMs: HANGS_AFTER_MS, keepGoing: false }
    expect(await prove(proof, () => counted.push(busyLoops().length), never)).toBe(true)
    expect(counted).toEqual([0, 2])
    expect(busyLoops()).toEqual([])
  })

  it('ends its run and its loops when somebody asks for the end', async () => {
    const interrupted = new AbortController()
    const going = proving('sleep 1000 & wait', { phases: [{ runs: 1, loops: 2 }] }, interrupted.signal)
    interrupted.abort(new Error('ended by SIGINT'))
    await expect(going).rejects.toThrow('ended by SIGINT')
    expect(busyLoops()).toEqual([])
  })
})

describe('what a run leaves behind', () => {
  it('is a process that lives on, though it left the group', async () => {
    const { runs } = await proving('setsid sleep 1000 > /dev/null 2>&1 &')
    expect(runs).toHaveLength(1)
    expect(runs[0]?.leftBehind).toEqual([expect.stringMatching(/^process \d+: .*sleep 1000$/)])
    process.kill(Number(/\d+/.exec(String(runs[0]?.leftBehind[0]))?.[0]))
  })

  it('is not a namespace of a process that lives: another run may go on', async () => {
    const { right } = await proving(
      `mkdir "$1/nlt-$$-lan" "$1/natloom-lab-${process.pid}-1-lan"; rmdir "$1/nlt-$$-lan"`,
      {
        phases: [{ runs: 1, loops: 0 }],
      },
    )
    expect(right).toBe(true)
  })

  it('is a namespace whose process is gone', async () => {
    const { runs } = await proving('mkdir "$1/nlt-io$$-a"')
    expect(runs[0]?.leftBehind).toEqual([expect.stringMatching(/^network namespace nlt-io\d+-a$/)])
  })
})
