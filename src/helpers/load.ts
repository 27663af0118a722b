// From what a configuration says of a helper to the helper: a built-in one by its name, a user's by the path of its
// module, in whatever thread asks. The list of them is plain data and travels to the shards as JSON
// (helpers/helper-list.ts).

import { existsSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { pathToFileURL } from 'node:url'
import { formatAddress, parseAddress, parsePrefix } from '../wire/address.ts'
import { BUILTIN } from './builtin.ts'
import { type Binding, helperFault, type OnHelperFailure } from './declaration.ts'
import type { Helper, HelperModule } from './helper.ts'
import { formatFault } from './module-format.ts'

export type HelperOptions = Readonly<Record<string, unknown>>

/** A helper in force, or one that has failed and that nobody has unloaded since. */
export interface HelperEntry {
  /** The helper's number in the registry. */
  readonly id: number
  readonly name: string
  /** A built-in's name, or the absolute path of a module. */
  readonly module: string
  readonly options: HelperOptions
  readonly bindings: readonly Binding[]
  readonly onFailure: OnHelperFailure
  /** Nobody imports it; what it should read is watched (datapath/helped/watch.ts). */
  readonly hasFailed?: true
  /** Counts loads: a module that was changed is imported anew. */
  readonly load: number
}

const NAMES = `${Object.keys(BUILTIN).join(', ')}, or the path of a module, which begins with ./, ../ or /`

/** An import that waits for something keeps its shard from turning. */
const WITHIN_MS = 2000

/** The helper that this module makes. Throws an Error that says what is wrong with it. */
export async function loadHelper({
  module,
  options,
  load,
}: Pick<HelperEntry, 'module' | 'options' | 'load'>): Promise<Helper> {
  const helper = isAbsolute(module) ? made(await imported(module, load), options) : builtin(module, options)
  const fault = helperFault(helper)
  if (fault !== undefined) throw new Error(fault)
  return helper
}

function builtin(name: string, options: HelperOptions): Helper {
  if (!Object.hasOwn(BUILTIN, name)) throw new Error(`there is no helper ${name}: ${NAMES}`)
  return BUILTIN[name]!(options)
}

async function imported(path: string, load: number): Promise<unknown> {
  if (!existsSync(path)) throw new Error('there is no such file')
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`its import took longer than ${WITHIN_MS / 1000} s`)), WITHIN_MS)
  })
  try {
    const module: { default?: unknown } = await Promise.race([import(`${pathToFileURL(path)}?load=${load}`), late])
    return module.default
  } catch (error) {
    const fault = formatFault(error)
    throw fault === undefined ? error : new Error(fault, { cause: error })
  } finally {
    clearTimeout(timer)
  }
}

function made(exported: unknown, options: HelperOptions): Helper {
  if (typeof exported === 'function') return (exported as Extract<HelperModule, (...args: never[]) => unknown>)(options)
  if (exported === undefined) throw new Error('it has no default export: a helper, or a function that makes one')
  if (Object.keys(options).length > 0) throw new Error('it takes no options: it exports a helper, not a function')
  return exported as Helper
}

/**
 * What the helper is bound to: its own tuple, but for the ports and the servers (addresses or prefixes) that are named.
 * @throws RangeError for what is no address or prefix.
 */
export function bindingsOf(
  helper: Pick<Helper, 'tuple' | 'mask'>,
  ports: readonly number[] = [],
  servers: readonly string[] = [],
): readonly Binding[] {
  const { dstPort: _port, ...maskOfOtherPorts } = helper.mask ?? {}
  const byPort: Binding[] =
    ports.length === 0
      ? [{ tuple: helper.tuple, mask: helper.mask }]
      : ports.map((dstPort) => ({
          tuple: { ...helper.tuple, dstPort },
          mask: maskOfOtherPorts,
        }))
  if (servers.length === 0) return byPort
  const networks = servers.map(networkOf)
  return byPort.flatMap(({ tuple, mask }) =>
    networks.map(({ address, netmask }) => ({
      tuple: { ...tuple, dstAddress: address },
      mask: { ...mask, dstAddress: netmask },
    })),
  )
}

function networkOf(text: string): { address: string; netmask: string } {
  const { address, mask } = text.includes('/') ? parsePrefix(text) : { address: parseAddress(text), mask: -1 }
  return { address: formatAddress(address), netmask: formatAddress(mask) }
}
