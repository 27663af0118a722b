// Each of the project's own checks: what it accepts, and that it can refuse.

import { describe, expect, it } from 'vitest'
import { describeFinding } from '../../scripts/checks/finding.ts'
import { checkLengths } from '../../scripts/checks/lengths.ts'
import { checkParameters } from '../../scripts/checks/parameters.ts'
import { checkReadmes } from '../../scripts/checks/readmes.ts'
import { findingsIn } from './tree.ts'

it('a finding says where, what and what to do', () => {
  const text = describeFinding({ place: 'src/a.ts:3', rule: '130 columns, at most 120', advice: 'wrap it' })
  expect(text).toBe('src/a.ts:3: 130 columns, at most 120\n    wrap it')
})

describe('lengths', () => {
  const columns = (count: number): string => `// ${'x'.repeat(count - 3)}\n`
  const lines = (count: number): string => '//\n'.repeat(count)

  for (const folder of ['src/wire', 'workers', 'test', 'bench', 'scripts'])
    it(`of ${folder}: 120 columns pass, 121 don't`, async () => {
      const files = { [`${folder}/a.ts`]: columns(120), [`${folder}/b.ts`]: `//\n${columns(121)}` }
      const findings = await findingsIn(files, checkLengths)
      expect(findings).toEqual([
        expect.objectContaining({ place: `${folder}/b.ts:2`, rule: '121 columns, at most 120' }),
      ])
    })

  it('400 lines pass, 401 do not', async () => {
    const findings = await findingsIn({ 'src/a.ts': lines(400), 'src/b.ts': lines(401) }, checkLengths)
    expect(findings).toEqual([expect.objectContaining({ place: 'src/b.ts', rule: '401 lines, at most 400' })])
  })

  it('a last line without an end counts', async () => {
    expect(await findingsIn({ 'src/b.ts': `${lines(400)}//` }, checkLengths)).toHaveLength(1)
  })

  it('what is not TypeScript may be as it likes', async () => {
    expect(await findingsIn({ 'src/README.md': columns(500), 'docs/a.ts': columns(500) }, checkLengths)).toEqual([])
  })
})

describe('parameters', () => {
  const five = 'a: 1, b: 1, c: 1, d: 1, e: 1'
  const six = `${five}, f: 1`
  const kinds: readonly (readonly [string, (parameters: string) => string, string])[] = [
    ['a function', (all) => `export function open(${all}) {}`, 'open'],
    ['a method', (all) => `export class C { close(${all}) {} }`, 'close'],
    ['a constructor', (all) => `export class C { constructor(${all}) {} }`, 'the constructor'],
    ['an arrow function', (all) => `export const sum = (${all}) => 1`, 'sum'],
    ['a function without a name', (all) => `call((${all}) => 1)`, 'a function'],
    ['a type', (all) => `export type F = (${all}) => void`, 'a function'],
    ['a method of an interface', (all) => `export interface I { send(${all}): void }`, 'send'],
    ['a property of a function type', (all) => `export interface I { send: (${all}) => void }`, 'send'],
  ]
  for (const [kind, declare, name] of kinds)
    it(`${kind} may have five`, async () => {
      expect(await findingsIn({ 'src/a.ts': declare(five) }, checkParameters)).toEqual([])
      const findings = await findingsIn({ 'src/a.ts': `\n${declare(six)}` }, checkParameters)
      expect(findings).toEqual([
        expect.objectContaining({ place: 'src/a.ts:2', rule: `${name} has 6 positional parameters, at most 5` }),
      ])
    })

  it('this is none', async () => {
    expect(await findingsIn({ 'src/a.ts': `function f(this: Date, ${five}) {}` }, checkParameters)).toEqual([])
  })

  it('the ones of an inner function count for themselves', async () => {
    const inner = `export function outer(${five}) { return (${five}) => (${six}) => 1 }`
    expect(await findingsIn({ 'workers/a.ts': inner }, checkParameters)).toHaveLength(1)
  })
})

describe('READMEs', () => {
  const table = (...names: string[]): string => ['| file | is |', '| --- | --- |', ...names].join('\n')

  it('name every file, in a table or in a sentence, several in one cell too', async () => {
    const files = {
      'src/a/README.md': `${table('| `one.ts`, `two.ts` | both |')}\n\nand \`three.ts\``,
      'src/a/one.ts': '',
      'src/a/two.ts': '',
      'src/a/three.ts': '',
    }
    expect(await findingsIn(files, checkReadmes)).toEqual([])
  })

  it('that leave one out are refused', async () => {
    const files = { 'src/a/README.md': table('| `one.ts` | one |'), 'src/a/one.ts': '', 'src/a/two.ts': '' }
    const findings = await findingsIn(files, checkReadmes)
    expect(findings).toEqual([expect.objectContaining({ place: 'src/a/README.md', rule: 'does not name two.ts' })])
  })

  it('that name one that is gone are refused', async () => {
    const files = {
      'src/a/README.md': table('| `one.ts` | `../b.ts`, `gone.ts` |', '| `gone.ts` | |'),
      'src/a/one.ts': '',
    }
    const findings = await findingsIn(files, checkReadmes)
    expect(findings.map(({ rule }) => rule)).toEqual(['names gone.ts, which is not there'])
  })

  it('are asked for in every folder that has files, and in no other', async () => {
    const files = { 'src/a/b/one.ts': '', 'bench/two.ts': '', 'test/three.ts': '' }
    const findings = await findingsIn(files, checkReadmes)
    expect(findings.map(({ place, rule }) => `${place} ${rule}`)).toEqual([
      'src/a/b/README.md is not there',
      'bench/README.md is not there',
    ])
  })
})
