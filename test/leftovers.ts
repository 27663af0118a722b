// What tests make on the machine, and how none of it outlives them: network namespaces and temporary folders have names
// that begin with the run of the tests that made them. Whatever becomes of a test's process, the run removes in the end
// all that has its name, processes inside namespaces included, and before it begins what a killed run has left. Runs at
// the same time have different names.
//
//   nlt-<process of the run>-<its start>-<process of the test file>-<what it is>

import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Namespace } from '../src/lab/world/namespace.ts'
import { familyOf, removeLeftovers, removeOf } from '../src/lab/world/topology.ts'

/** What begins the names of all runs, and of what else the tests start: the lab, the benches. */
const FAMILIES = ['nlt', 'natloom-lab', 'natloom-kill', 'natloom-flush', 'natloom-leaks']
/**
 * In the environment of the test files: what begins this run's names. natloom itself refuses unknown NATLOOM_ names.
 */
const RUN = 'NLT_RUN'

/** vitest's globalSetup: once a run, in the process that starts those of the test files. */
export default function setup(): () => void {
  const run = familyOf('nlt')
  process.env[RUN] = run
  const removeOthers = () => FAMILIES.forEach(removeLeftovers)
  removeOthers()
  return () => {
    removeOf(run)
    removeOthers()
  }
}

/** For topologies of this test file. */
export const testFamily = (): string => {
  const run = process.env[RUN]
  if (run === undefined) throw new Error(`${RUN} is not set: test/leftovers.ts was not run as globalSetup`)
  return run
}

const nameOf = (what: string): string => `${testFamily()}-${process.pid}-${what}`

/** A host of this test file's. */
export const testNamespace = (what: string): Namespace => Namespace.create(nameOf(what))

/** A new folder, empty. */
export const testFolder = (what: string): string => mkdtempSync(join(tmpdir(), `${nameOf(what)}-`))
