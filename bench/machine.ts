// The machine that a figure was measured on; every result that a bench keeps has it beside it.

import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem, version } from 'node:os'

export interface Machine {
  readonly cpu: string
  /** How many this process may use. */
  readonly cores: number
  readonly memoryGiB: number
  readonly virtual: boolean
  readonly kernel: string
  readonly kernelBuild: string
  readonly node: string
  readonly v8: string
  readonly natloom: string
}

const GIB = 2 ** 30

export function machine(): Machine {
  const [first] = cpus()
  const { version: natloom } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
  return {
    cpu: first?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / GIB),
    virtual: /^flags\s*:.*\bhypervisor\b/m.test(readFileSync('/proc/cpuinfo', 'utf8')),
    kernel: release(),
    kernelBuild: version(),
    node: process.version,
    v8: process.versions.v8,
    natloom,
  }
}

export const describeMachine = (on: Machine): string =>
  `${on.cpu}, ${on.cores} cores${on.virtual ? ' of a virtual machine' : ''}, ${on.memoryGiB} GiB, ` +
  `Linux ${on.kernel}, Node ${on.node}, natloom ${on.natloom}`
