// bench:against on a small repository of the same shape: a revision is built beside the tree, both are measured by
// turns, and its worktree is gone afterwards, whatever happened.

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { byTurns } from '../../bench/by-turns.ts'
import { OtherBuild, revisionAt } from '../../bench/other-build.ts'
import { testFolder } from '../leftovers.ts'

let root: string
let said: string[]
const under = (signal = new AbortController().signal) => ({ say: (line: string) => said.push(line), signal })

const git = (...args: string[]): string =>
  execFileSync('git', ['-c', 'user.name=n', '-c', 'user.email=n@example.org', ...args], { cwd: root, encoding: 'utf8' })

/** A revision whose build is `script` and whose pipeline bench prints the next of some figures each time. */
function commit(subject: string, script: string, ...figures: number[]): void {
  commitBench(
    subject,
    script,
    '{ flows: Number(process.argv[2]), nanosecondsPerPacket: figures[runs], dropped: 0 }',
    figures,
  )
}

/** The same, which tells ten times that for opening a flow by UDP, and twenty times by TCP. */
function commitOpening(subject: string, ...figures: number[]): void {
  const opening = '{ tcp: 20 * figures[runs], udp: 10 * figures[runs] }'
  commitBench(
    subject,
    BUILD,
    `{ nanosecondsPerPacket: figures[runs], nanosecondsToOpen: ${opening}, dropped: 0 }`,
    figures,
  )
}

function commitBench(subject: string, script: string, result: string, figures: readonly number[]): void {
  const bench = [
    "const fs = require('node:fs')",
    "const runs = fs.existsSync('runs') ? fs.readFileSync('runs').length : 0",
    "fs.appendFileSync('runs', '.')",
    `const figures = ${JSON.stringify(figures)}`,
    `console.log(JSON.stringify(${result}))`,
  ]
  writeFileSync(join(root, 'package.json'), JSON.stringify({ name: 'x', scripts: { build: script } }))
  writeFileSync(join(root, 'bench.js'), bench.join('\n'))
  git('add', '.')
  git('commit', '--quiet', '--message', subject)
}

const BUILD = 'mkdir -p dist/bench && cp bench.js dist/bench/pipeline.js'
const worktrees = () => git('worktree', 'list').trim().split('\n').length
const buildFolders = () => readdirSync(tmpdir()).filter((name) => name.startsWith(`natloom-build-${process.pid}-`))

beforeEach(() => {
  root = testFolder('against')
  said = []
  git('init', '--quiet')
})
afterEach(() => {
  expect(worktrees()).toBe(1)
  expect(buildFolders()).toEqual([])
  rmSync(root, { recursive: true })
})

describe('another build', () => {
  it('is the revision as it was, whatever the tree has become', async () => {
    commit('the first', BUILD, 1)
    commit('the second', BUILD, 2)
    writeFileSync(join(root, 'bench.js'), 'changed')
    expect(revisionAt(root)).toMatchObject({ subject: 'the second', modified: 1 })
    const build = await OtherBuild.create(root, 'HEAD~1', under())
    expect(build.revision).toMatchObject({ subject: 'the first', modified: 0 })
    const printed = execFileSync('node', ['dist/bench/pipeline.js', '5'], { cwd: build.folder, encoding: 'utf8' })
    expect(JSON.parse(printed)).toEqual({ flows: 5, nanosecondsPerPacket: 1, dropped: 0 })
    build.remove()
    build.remove()
    expect(existsSync(build.folder)).toBe(false)
  })

  it('shares the dependencies of a tree that has the same lock file', async () => {
    commit('only one', BUILD, 1)
    mkdirSync(join(root, 'node_modules'))
    writeFileSync(join(root, 'node_modules', 'known'), '')
    const build = await OtherBuild.create(root, 'HEAD', under())
    expect(existsSync(join(build.folder, 'node_modules', 'known'))).toBe(true)
    build.remove()
    expect(existsSync(join(root, 'node_modules', 'known'))).toBe(true)
  })

  it('that fails says with what, and leaves nothing', async () => {
    commit('broken', 'echo the compiler complains; exit 7', 1)
    await expect(OtherBuild.create(root, 'HEAD', under())).rejects.toThrow(
      /npm run build ended with 7:[\s\S]*complains/,
    )
  })

  it('ends when somebody asks for the end', async () => {
    commit('slow', 'touch started; while :; do sleep 0.1; done', 1)
    const interrupted = new AbortController()
    const { say } = under()
    const building = OtherBuild.create(root, 'HEAD', {
      signal: interrupted.signal,
      say(line) {
        say(line)
        if (line.endsWith('npm run build')) setImmediate(() => interrupted.abort(new Error('ended by SIGINT')))
      },
    })
    await expect(building).rejects.toThrow('ended by SIGINT')
  })

  it('of a name that no commit has is refused', async () => {
    commit('only one', BUILD, 1)
    await expect(OtherBuild.create(root, 'nonsense', under())).rejects.toThrow('nonsense names no commit')
  })
})

describe('two builds by turns', () => {
  it('give the ratio of their medians, and every round', async () => {
    commit('before', BUILD, 10, 30, 20)
    const before = await OtherBuild.create(root, 'HEAD', under())
    commit('now', BUILD, 22, 11, 100)
    const now = await OtherBuild.create(root, 'HEAD', under())
    said = []
    const plan = { rounds: 3, flows: [1000], seconds: 1 }
    const measured = await byTurns({ before: before.folder, now: now.folder }, plan, under())
    before.remove()
    now.remove()
    expect(measured).toEqual([
      {
        flows: 1000,
        figure: 'packet',
        rounds: [
          { before: 10, now: 22 },
          { before: 30, now: 11 },
          { before: 20, now: 100 },
        ],
        before: { median: 20, least: 10, most: 30 },
        now: { median: 22, least: 11, most: 100 },
        ratio: 1.1,
      },
    ])
    expect(said).toHaveLength(3)
    expect(said[0]).toMatch(/1,000 flows, packet +, round 1: before +10.0 ns, now +22.0 ns, ratio 2.200/)
  })

  it('compare how long a flow takes to open, if both tell', async () => {
    const plan = { rounds: 1, flows: [1000], seconds: 1 }
    commit('before that was measured', BUILD, 10)
    const untold = await OtherBuild.create(root, 'HEAD', under())
    commitOpening('before', 10, 10)
    const before = await OtherBuild.create(root, 'HEAD', under())
    commitOpening('now', 11, 12)
    const now = await OtherBuild.create(root, 'HEAD', under())
    const told = await byTurns({ before: before.folder, now: now.folder }, plan, under())
    const others = await byTurns({ before: untold.folder, now: now.folder }, plan, under())
    for (const build of [untold, before, now]) build.remove()
    expect(told.map(({ figure, before: then, now: today }) => [figure, then.median, today.median])).toEqual([
      ['packet', 10, 11],
      ['open TCP', 200, 220],
      ['open UDP', 100, 110],
    ])
    expect(others.map(({ figure, ratio }) => [figure, ratio])).toEqual([['packet', 1.2]])
  })

  it('are refused if one has no pipeline bench', async () => {
    commit('without', 'true', 1)
    const build = await OtherBuild.create(root, 'HEAD', under())
    const plan = { rounds: 1, flows: [1000], seconds: 1 }
    const measuring = byTurns({ before: build.folder, now: build.folder }, plan, under())
    await expect(measuring).rejects.toThrow(/has no dist\/bench\/pipeline.js after its build/)
    build.remove()
  })
})
