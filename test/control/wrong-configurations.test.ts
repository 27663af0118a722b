import { dirname } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ConfigError, loadConfig } from '../../src/control/config.ts'
import { temporaryFile } from './command.ts'
import { readTable } from './transcript.ts'

const TWO_INTERFACES = ['inside: [lan0]', 'outside: [wan0]']
const VARIABLE = /^(NATLOOM_\w+)=(.*)$/

/** The problems that are told, one a line; the file is called natloom.yaml. */
function told(written: readonly string[]): string[] {
  const env = Object.fromEntries(
    written.flatMap((line) => [VARIABLE.exec(line)?.slice(1) ?? []].filter((v) => v.length)),
  )
  const yaml = written.filter((line) => !VARIABLE.test(line))
  const lines = yaml[0] === '(alone)' ? yaml.slice(1) : [...TWO_INTERFACES, ...yaml]
  const file = temporaryFile('natloom.yaml', `${lines.join('\n')}\n`)
  try {
    loadConfig({ file, env })
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.problems.map(({ where, what }) => `${where}: ${what}`.replace(`${dirname(file)}/`, ''))
  }
  return ['accepted']
}

describe('wrong-configurations.txt', () => {
  const cases = readTable('wrong-configurations.txt')

  it('has no case twice, and every case an answer', () => {
    expect(new Set(cases.map(({ written }) => written.join('\n'))).size).toBe(cases.length)
    expect(cases.filter(({ answer }) => answer.length === 0)).toEqual([])
    expect(cases.length).toBeGreaterThan(100)
  })

  for (const { written, answer, line } of cases)
    it(`line ${line}: ${written.join(' / ')}`, () => {
      expect(told(written)).toEqual(answer)
    })
})
