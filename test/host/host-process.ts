// A process that changes its host as natloom does and then does nothing, for tests that kill it or, by closing its
// standard input, stop it.

import { Host, type HostPlan } from '../../src/host/host.ts'

const host = new Host(JSON.parse(process.argv[2]!) as HostPlan)
try {
  host.prepare()
  host.apply()
  process.stdout.write('applied\n')
} catch (error) {
  host.undo()
  process.stdout.write(`refused: ${(error as Error).message}\n`)
}
process.stdin.resume().on('end', () => {
  const problems = host.undo()
  process.exit(problems.length === 0 ? 0 : 1)
})
