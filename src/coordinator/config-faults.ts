// What is wrong with a configuration as a whole, though each of its values is allowed: what `natloom check` passes,
// `natloom run` can start, as far as the configuration and the host's memory say. What only the host's interfaces,
// addresses and sockets can tell is asked at the start (host-checks/checks.ts). Pure.

import { parseFaults } from '../io/fault-plan.ts'
import { wholeBlocks } from '../nat/externals.ts'
import type { ConfigFault, GatewayConfig } from './config.ts'
import { memoryFaults, type PlannedConfig } from './memory-plan.ts'

type WholeConfig = PlannedConfig & Pick<GatewayConfig, 'nat' | 'api' | 'statePath' | 'labFaults'>

/** On a host with `memory` bytes of it. Throws FaultPlanError for a plan of faults that is none. */
export function configFaults(config: WholeConfig, memory: number): ConfigFault[] {
  if (config.labFaults !== undefined) parseFaults(config.labFaults)
  const faults = [fewBlocksFault(config), samePathFault(config)].filter((fault) => fault !== undefined)
  return [...memoryFaults(config, memory), ...faults]
}

/** What the gateway can do without, and its operator should know. */
export function configNotices({ nat }: Pick<GatewayConfig, 'nat'>): ConfigFault[] {
  const { ports, blockSize, pool } = nat
  const blocks = wholeBlocks(ports, blockSize)
  const [first, last] = [blocks[0], blocks.at(-1)]
  if (pool.length > 0 || first === undefined || last === undefined) return []
  const used = { from: first * blockSize, to: (last + 1) * blockSize - 1 }
  const unused = [
    ...(used.from > ports.from ? [`${ports.from}-${used.from - 1}`] : []),
    ...(used.to < ports.to ? [`${used.to + 1}-${ports.to}`] : []),
  ]
  if (unused.length === 0) return []
  return [
    {
      path: ['nat', 'ports'],
      fault: `NAT doesn't use ${unused.join(' and ')}, which are no whole blocks of ${blockSize} ports`,
      remedy: `set nat.ports to ${used.from}-${used.to}, or nat.blockSize to a smaller one`,
    },
  ]
}

/** A shard without a block of its own could only borrow one, and there would be none to lend. */
function fewBlocksFault({ nat, workers }: WholeConfig): ConfigFault | undefined {
  const { ports, blockSize, pool } = nat
  const blocks = wholeBlocks(ports, blockSize).length
  if (pool.length > 0 || blocks >= workers) return undefined
  const has = blocks === 0 ? 'no whole block' : blocks === 1 ? 'one whole block' : `${blocks} whole blocks`
  const needs = workers === 1 ? 'the worker needs one' : `each of ${workers} workers needs one`
  return {
    path: ['nat', 'ports'],
    fault: `${has} of ${blockSize} ports in ${ports.from}-${ports.to}, and ${needs}`,
    remedy: `set a wider range, or ${workers > 1 ? 'fewer workers' : 'a smaller nat.blockSize'}`,
  }
}

function samePathFault({ api, statePath }: WholeConfig): ConfigFault | undefined {
  if (api.socket !== statePath) return undefined
  return {
    path: ['api', 'socket'],
    fault: `${statePath} is statePath, too, and one would overwrite the other`,
    remedy: 'name another file',
  }
}
