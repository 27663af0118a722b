// `npm run prove:tests`, `npm run prove:lab`: proves that `npm test` and `npm run lab -- ftp` are right every time,
// also on a busy machine (proof.ts). Prints the result of each run and keeps all of it in bench/results/. Ends with 1
// at the first run that is wrong.
//
//   node dist/bench/prove.js tests|lab [option ...] [-- argument of the command ...]
//
//   --quiet N         runs on a machine that does nothing else: 5 of the tests, none of the lab by default
//   --loaded N        runs beside busy loops: 2 of the tests, 10 of the lab by default
//   --loops N         busy loops, 6 by default
//   --within N        minutes after which a run hangs, 60 by default
//   --keep-going      also after a wrong run
//   --out FILE        bench/results/prove-tests.json or prove-lab.json by default

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { wholeNumber } from './arguments.ts'
import { describeMachine, machine } from './machine.ts'
import { revisionAt } from './other-build.ts'
import { type Proof, prove, type Run } from './proof.ts'

interface Subject {
  readonly command: readonly [string, ...string[]]
  readonly argument: readonly string[]
  readonly quiet: string
  readonly loaded: string
  /** Matches the lines of its output that sum up the run. */
  readonly verdict: RegExp
}

const SUBJECTS: Readonly<Record<string, Subject>> = {
  tests: { command: ['npm', 'test', '--'], argument: [], quiet: '5', loaded: '2', verdict: /^\s*(Test Files|Tests) / },
  lab: {
    command: ['npm', 'run', 'lab', '--'],
    argument: ['ftp'],
    quiet: '0',
    loaded: '10',
    verdict: /^(All traffic right|Not all was right|natloom lab: \D)/,
  },
}

/** How many lines of a right run's output are kept; of a wrong one, all. */
const KEPT_LINES = 100
const SHOWN_LINES = 40
const MINUTE_MS = 60_000

const usage = (): never => {
  console.error('usage: prove.js tests|lab [--quiet N] [--loaded N] [--loops N] [--within MINUTES] [--keep-going]')
  console.error('                          [--out FILE] [-- argument of the command ...]')
  process.exit(2)
}

const whole = (option: string, text: string): number => wholeNumber(option, text, 0)

async function main(): Promise<boolean> {
  const { values, positionals } = parseArgs({
    options: {
      quiet: { type: 'string' },
      loaded: { type: 'string' },
      loops: { type: 'string', default: '6' },
      within: { type: 'string', default: '60' },
      'keep-going': { type: 'boolean', default: false },
      out: { type: 'string' },
    },
    allowPositionals: true,
  })
  const [name = '', ...given] = positionals
  const subject = SUBJECTS[name] ?? usage()
  const proof: Proof = {
    command: [...subject.command, ...(given.length > 0 ? given : subject.argument)],
    phases: [
      { runs: whole('--quiet', values.quiet ?? subject.quiet), loops: 0 },
      { runs: whole('--loaded', values.loaded ?? subject.loaded), loops: whole('--loops', values.loops) },
    ],
    withinMs: whole('--within', values.within) * MINUTE_MS,
    keepGoing: values['keep-going'],
  }
  const out = values.out ?? `bench/results/prove-${name}.json`
  const asked = proof.phases.reduce((sum, { runs }) => sum + runs, 0)
  const [on, of] = [machine(), revisionAt(fileURLToPath(new URL('../..', import.meta.url)))]
  const command = proof.command.join(' ').replace(/ --$/, '')
  console.log(
    `${describeMachine(on)}\n${of.commit} ${of.subject}${of.modified ? `, ${of.modified} files modified` : ''}`,
  )
  console.log(`\n${command}\n`)

  const interrupted = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => interrupted.abort(new Error(`ended by ${signal}`)))

  const began = new Date().toISOString()
  const runs: Run[] = []
  const seen = (run: Run): void => {
    runs.push({ ...run, output: run.right ? run.output.slice(-KEPT_LINES) : run.output })
    const { right, loops, seconds, ended, leftBehind, output } = run
    const verdict = output.filter((line) => subject.verdict.test(line)).map((line) => line.trim())
    console.log(
      `run ${runs.length} of ${asked}, ${loops} busy loops: ${right ? 'right' : `wrong (ended with ${ended})`}, ` +
        `${seconds} s${verdict.length > 0 ? `: ${verdict.join(', ')}` : ''}`,
    )
    for (const line of leftBehind) console.log(`  left behind: ${line}`)
    if (!right) for (const line of output.slice(-SHOWN_LINES)) console.log(`  | ${line}`)
    // Written after each run, so that a proof that is interrupted has kept what it has shown so far.
    const result = { date: began, machine: on, revision: of, command, asked, runs }
    mkdirSync(dirname(out), { recursive: true })
    writeFileSync(out, `${JSON.stringify(result, null, 2)}\n`)
  }
  const right = await prove(proof, seen, interrupted.signal)
  const wrong = runs.filter((run) => !run.right).length
  console.log(`\n${runs.length - wrong} of ${asked} runs right, ${wrong} wrong; kept in ${out}`)
  return right
}

try {
  process.exitCode = (await main()) ? 0 : 1
} catch (error) {
  console.error(`prove: ${(error as Error).message}`)
  process.exit(error instanceof RangeError ? 2 : 1)
}
