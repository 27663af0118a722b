// The command as users call it, one process for each case; several run at once.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { readTable } from './transcript.ts'

const MAIN = fileURLToPath(new URL('../../dist/src/control/main.js', import.meta.url))
const AT_ONCE = 4
const VARIABLE = /^(NATLOOM_\w+)=(.*)$/
const PROMPT = '$ natloom '

interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** `a 'b c' d`, as a shell splits it. */
const wordsOf = (line: string): string[] =>
  [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, word]) => quoted ?? (word as string))

function run(written: readonly string[]): Promise<Ran> {
  const args = wordsOf(written.find((line) => line.startsWith(PROMPT))!.slice(PROMPT.length))
  const set = written.map((line) => VARIABLE.exec(line)).filter((found) => found !== null)
  const env = { PATH: process.env.PATH, ...Object.fromEntries(set.map(([, name, value]) => [name, value])) }
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], { env, cwd: '/' }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr })
    })
  })
}

/** What is said before the help that follows a wrong command line. */
const told = ({ code, stderr }: Ran): string[] => [
  `exit code ${code}`,
  ...stderr
    .split(/\n\nUsage: /)[0]!
    .trimEnd()
    .split('\n'),
]

describe('wrong-invocations.txt', () => {
  const cases = readTable('wrong-invocations.txt')
  const results: Ran[] = []

  beforeAll(async () => {
    const waiting = cases.entries()
    const worker = async () => {
      for (const [i, { written }] of waiting) results[i] = await run(written)
    }
    await Promise.all(Array.from({ length: AT_ONCE }, worker))
  })

  it('has no case twice', () => {
    expect(new Set(cases.map(({ written }) => written.join('\n'))).size).toBe(cases.length)
    expect(cases.length).toBeGreaterThan(60)
  })

  for (const [i, { written, answer, line }] of cases.entries())
    it(`line ${line}: ${written.join(' ')}`, () => {
      expect(told(results[i]!)).toEqual(answer)
      expect(results[i]!.stdout).toBe('')
    })
})
