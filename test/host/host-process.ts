// A process that changes its host as natloom does and then does nothing, for tests that kill it.

import { Host, type HostPlan } from '../../src/host/host.ts'

const host = new Host(JSON.parse(process.argv[2]) as HostPlan)
host.prepare()
host.apply()
process.stdout.write('applied\n')
process.stdin.resume()
