// Which changes of the nft ruleset are natloom's own and which somebody else's, also in a container, where the kernel
// names processes by other numbers than those that they have there.

import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Namespace } from '../../src/lab/world/namespace.ts'
import { testNamespace } from '../leftovers.ts'

/** A compiled module, since the program below runs without a test runner. */
const compiled = (file: string) => fileURLToPath(new URL(`../../dist/src/host/${file}.js`, import.meta.url))

/** Prints what the watch takes after each of several changes. */
const PROGRAM = `
import { execFileSync } from 'node:child_process'
import { RuleTables } from ${JSON.stringify(compiled('rule-tables'))}
import { RulesetWatch } from ${JSON.stringify(compiled('ruleset-watch'))}
const interfaces = { names: ['eth0'], indexes: [] }
const rules = {
  inside: interfaces, outside: { ...interfaces, names: ['eth1'] }, shared: [], pool: [],
  natPorts: { from: 1, to: 2 }, contested: [], protocols: [], forwarded: [],
}
const tables = new RuleTables('natloom')
const watch = new RulesetWatch(tables.port)
const taken = {}
const after = (what, step) => {
  step()
  taken[what] = watch.take() ?? 'nobody'
}
after('ours', () => tables.apply(rules))
after('nft', () => execFileSync('nft', ['add', 'table', 'ip', 'others']))
after('both, ours last', () => {
  execFileSync('nft', ['add', 'table', 'ip', 'more'])
  tables.apply(rules)
})
const other = new RuleTables('other')
after('another gateway of this process', () => other.apply(rules))
after('nothing', () => {})
console.log(JSON.stringify({ pid: process.pid, ...taken }))
process.exit(0)
`

let gateway: Namespace
beforeEach(() => {
  gateway = testNamespace('ruleset')
})
afterEach(() => gateway.delete())

const NODE = [process.execPath, '--input-type=module', '-e', PROGRAM] as const
const TAKEN = {
  ours: 'nobody',
  nft: expect.stringMatching(/^nft \(\d+\)$/),
  'both, ours last': expect.stringMatching(/^nft \(\d+\)$/),
  'another gateway of this process': expect.stringMatching(/^\S+ \(\d+\)$/),
  nothing: 'nobody',
}

it('of a process like any other', () => {
  expect(JSON.parse(gateway.exec(...NODE))).toMatchObject(TAKEN)
})

it('of a process in a namespace of process ids, as in a container', () => {
  const said = JSON.parse(gateway.exec('unshare', '--pid', '--fork', '--mount-proc', ...NODE))
  expect(said).toMatchObject({ pid: 1, ...TAKEN })
})
