// `npm run bench:against -- REV`: has the pipeline become slower since a revision? Builds that revision in a worktree
// of its own (other-build.ts), then runs both pipelines by turns (by-turns.ts). Prints every round and the ratio of the
// medians, of an established packet and, where the revision's own bench measures it, of opening a flow: above 1, this
// tree is slower. It gives no verdict: the exit code is 0 whatever the ratio is.
//
//   --rounds N           7 by default
//   --flows N,M          1000,1000000 by default
//   --seconds N          of each measurement, 2 by default
//   --out FILE           bench/results/against-COMMIT.json by default

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { wholeNumber } from './arguments.ts'
import { byTurns, type Measured, type Plan, resultText } from './by-turns.ts'
import { describeMachine, machine } from './machine.ts'
import { OtherBuild, revisionAt } from './other-build.ts'

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: {
      rounds: { type: 'string', default: '7' },
      flows: { type: 'string', default: '1000,1000000' },
      seconds: { type: 'string', default: '2' },
      out: { type: 'string' },
    },
    allowPositionals: true,
  })
  const [name, ...more] = positionals
  if (name === undefined || more.length > 0) {
    console.error('usage: npm run bench:against -- REV [--rounds N] [--flows N,M] [--seconds N] [--out FILE]')
    process.exit(2)
  }
  const plan: Plan = {
    rounds: wholeNumber('--rounds', values.rounds),
    flows: values.flows.split(',').map((flows) => wholeNumber('--flows', flows)),
    seconds: wholeNumber('--seconds', values.seconds),
  }
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const [on, now] = [machine(), revisionAt(root)]
  const interrupted = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => interrupted.abort(new Error(`ended by ${signal}`)))
  const surroundings = { say: console.log, signal: interrupted.signal }

  console.log(describeMachine(on))
  const build = await OtherBuild.create(root, name, surroundings)
  const before = build.revision
  console.log(`before  ${before.commit} ${before.subject}`)
  console.log(`now     ${now.commit} ${now.subject}${now.modified > 0 ? `, ${now.modified} files modified` : ''}\n`)
  let measured: Measured[]
  try {
    measured = await byTurns({ before: build.folder, now: root }, plan, surroundings)
  } finally {
    build.remove()
  }

  console.log()
  for (const each of measured) console.log(resultText(each))
  const out = values.out ?? `bench/results/against-${before.commit}.json`
  const command = ['npm run bench:against --', ...process.argv.slice(2)].join(' ')
  mkdirSync(dirname(out), { recursive: true })
  writeFileSync(
    out,
    `${JSON.stringify({ date: new Date().toISOString(), machine: on, command, before, now, measured }, null, 2)}\n`,
  )
  console.log(`kept in ${out}`)
}

try {
  await main()
} catch (error) {
  console.error(`bench:against: ${(error as Error).message}`)
  process.exit(1)
}
