// `npm run prove:oracle`: TCP sequences through the kernel and through natloom, compared after every segment, as
// test/oracle/oracle.host.test.ts does it, with more of them. Ends with 1 if anything differs that is not meant to, or
// if something is not covered; keeps what came of it in bench/results/.
//
//   --sequences N        generated ones at each setting, 10000 by default
//   --seed N             others than the tests have
//   --out FILE           bench/results/prove-oracle.json by default

import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { wholeNumber } from './arguments.ts'
import { describeMachine, machine } from './machine.ts'
import { revisionAt } from './other-build.ts'

const TEST = 'test/oracle/oracle.host.test.ts'

const { values: options } = parseArgs({
  options: {
    sequences: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '20261130' },
    out: { type: 'string', default: 'bench/results/prove-oracle.json' },
  },
})

const on = machine()
console.log(`${describeMachine(on)}\n`)
const folder = mkdtempSync(join(tmpdir(), 'natloom-oracle-'))
try {
  const reportsAt = join(folder, 'reports.json')
  const env = {
    ...process.env,
    NLT_ORACLE: String(wholeNumber('--sequences', options.sequences)),
    NLT_SEED: String(wholeNumber('--seed', options.seed)),
    NLT_ORACLE_REPORTS: reportsAt,
  }
  const { status } = spawnSync('npx', ['vitest', 'run', TEST], { env, stdio: 'inherit' })
  const command = ['node', 'dist/bench/oracle.js', ...process.argv.slice(2)].join(' ')
  const reports = JSON.parse(readFileSync(reportsAt, 'utf8')) as { readonly faults: readonly unknown[] }[]
  const right = status === 0 && reports.every(({ faults }) => faults.length === 0)
  const date = new Date().toISOString()
  const result = { date, machine: on, revision: revisionAt(process.cwd()), command, right, reports }
  mkdirSync(dirname(options.out), { recursive: true })
  writeFileSync(options.out, `${JSON.stringify(result, null, 2)}\n`)
  console.log(`kept in ${options.out}`)
  process.exitCode = right ? 0 : 1
} finally {
  rmSync(folder, { recursive: true })
}
