// The types of the package as an author of helpers has them: from the tarball, under --strict, with nothing but it
// installed.

import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testFolder } from '../leftovers.ts'
import { PROJECT, unpackInto } from './packed.ts'
import { tutorialOf } from './tutorial.ts'

const TSC = join(PROJECT, 'node_modules', 'typescript', 'bin', 'tsc')
/** Without `types`, TypeScript takes in all that the machine happens to have in @types. */
const STRICT = { strict: true, noEmit: true, module: 'nodenext', target: 'es2023', lib: ['es2023'], types: [] }

const ENTRY = "name: 'a', tuple: { proto: 'tcp', dstPort: 7777 }"

const ACCEPTED: Readonly<Record<string, string>> = {
  'a helper that returns nothing': `export const helper: Helper = { ${ENTRY}, help(ctx) { ctx.done() } }`,
  'one that returns a verdict': `export const helper: Helper = { ${ENTRY}, help: () => Verdict.Accept }`,
  'one that returns a verdict in one case, nothing in the other': `export const helper: Helper = {
    ${ENTRY},
    help(ctx) {
      if (!ctx.established) return
      if (ctx.text === '') return Verdict.Drop
    },
  }`,
  'one that says so': `export const helper: Helper = { ${ENTRY}, help(ctx): Verdict | void { ctx.hold(0) } }`,
  'one that names the verdict without importing it': `export const helper: Helper = { ${ENTRY}, help: () => 'drop' }`,
  'a class': `class Parcel implements Helper {
    readonly name = 'parcel'
    readonly tuple = { proto: 'tcp' } as const
    help(ctx: HelperContext): void { ctx.done() }
  }
  export const helper: Helper = new Parcel()`,
  'a state of its own type': `export const helper: Helper<{ seen: number }> = {
    ${ENTRY},
    state: () => ({ seen: 0 }),
    help(ctx) { ctx.state.seen += ctx.text.length },
  }
  export const tried = new Script(helper)
  export default helper satisfies HelperModule`,
  'a function of options': `const make: HelperModule = (options) => ({
    ${ENTRY},
    help(ctx) { if (options.loose !== true) ctx.done() },
  })
  export default make`,
  'lines, an expectation and a replacement': `export const helper: Helper = {
    ${ENTRY},
    help(ctx) {
      for (const { at, text } of ctx.lines((partial) => 'PORT'.startsWith(partial))) {
        const told: Announced | undefined = ctx.expect({ port: Number(text) })
        if (told && !ctx.mangle(at, text.length, String(told.port))) ctx.unexpect(told.handle)
      }
    },
    expected: (child, master) => (child.tuple.dst.port === master.tuple.dst.port ? Expected.NotMine : Expected.Follow),
  }`,
  'a script': `export function tried(helper: Helper): string {
    const script = new Script(helper, { inside: 'server', externalPort: (port) => port + 1, established: true })
    const told: readonly string[] = script.expected.map(({ told }) => told)
    const edit: Edit | undefined = script.edits[0]
    return script.server('x') + script.client('y', true) + script.held('reply') + told.join() + edit?.is
  }`,
}

const REFUSED: Readonly<Record<string, readonly [code: string, says: RegExp]>> = {
  'a helper that returns something else': [`export const helper: Helper = { ${ENTRY}, help: () => 7 }`, /number/],
  'one that waits': [`export const helper: Helper = { ${ENTRY}, async help(ctx) { ctx.done() } }`, /Promise<void>/],
  'one without a name': ["export const helper: Helper = { tuple: { proto: 'tcp' }, help() {} }", /'name' is missing/],
  'one for a protocol without ports': [
    "export const helper: Helper = { name: 'a', tuple: { proto: 'gre' }, help() {} }",
    /"gre"' is not assignable/,
  ],
  'a misspelt field': [`export const helper: Helper = { ${ENTRY}, maxExpectd: 4, help() {} }`, /maxExpectd/],
  'a verdict that there is not': [`export const helper: Helper = { ${ENTRY}, help: () => Verdict.Queue }`, /Queue/],
  'expected() that returns nothing': [`export const helper: Helper = { ${ENTRY}, help() {}, expected() {} }`, /void/],
}

const IMPORTS = `import type { Announced, HelperContext, HelperModule } from 'natloom/helper'
import { Expected, type Helper, Verdict } from 'natloom/helper'
import { type Edit, Script } from 'natloom/testing'
`

const slug = (title: string): string => `${title.replaceAll(/[^a-z]+/gi, '-')}.ts`

describe('the types of the package', () => {
  const folder = testFolder('types')
  let said = ''

  beforeAll(() => {
    unpackInto(folder)
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
    const codes = {
      ...ACCEPTED,
      ...Object.fromEntries(Object.entries(REFUSED).map(([title, [code]]) => [title, code])),
    }
    for (const [title, code] of Object.entries(codes)) writeFileSync(join(folder, slug(title)), IMPORTS + code)
    const page = readFileSync(join(folder, 'node_modules', 'natloom', 'docs', 'helper-tutorial.md'), 'utf8')
    writeFileSync(join(folder, 'parcel.ts'), tutorialOf(page).inTypeScript)
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: STRICT }))
    said = spawnSync(process.execPath, [TSC, '--pretty', 'false'], { cwd: folder, encoding: 'utf8' }).stdout
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  /** What the compiler says of one example. Lines of an explanation are indented below the first one. */
  const saidOf = (title: string): string =>
    said.match(new RegExp(`^${slug(title).replace('.', '\\.')}\\(.*(\n +.*)*`, 'gm'))?.join('\n') ?? ''

  for (const title of Object.keys(ACCEPTED)) it(`take ${title}`, () => expect(saidOf(title)).toBe(''))
  for (const [title, [, says]] of Object.entries(REFUSED))
    it(`refuse ${title}`, () => expect(saidOf(title)).toMatch(says))

  it('have no fault of their own, and take the tutorial in TypeScript', () => {
    const faults = said
      .split('\n')
      .filter((line) => /^\S/.test(line) && !Object.keys(REFUSED).some((title) => line.startsWith(slug(title))))
    expect(faults).toEqual([])
  })
})
