// A process that offloads the flows of two-hosts.ts and then does nothing, for a test that kills it.

import type { Way } from '../../src/offload/links.ts'
import { Offload } from './two-hosts.ts'

const offload = new Offload({ way: process.argv[2] as Way })
process.stdout.write('attached\n')
process.stdin.resume().on('end', () => {
  offload.detach()
  process.exit(0)
})
