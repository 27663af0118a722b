// A natloom that has changed its host and then does nothing: to be killed.

import { Host, type HostPlan } from '../../src/host/host.ts'

const host = new Host(JSON.parse(process.argv[2]) as HostPlan)
host.prepare()
host.apply()
process.stdout.write('applied\n')
process.stdin.resume()
