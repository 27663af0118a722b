// Makes the gateway's configuration (coordinator/config.ts) of what file and environment say (sources.ts): checked
// against the schema, all problems reported at once, each with the key as the user wrote it, the value, and what is
// allowed.

import { availableParallelism, totalmem } from 'node:os'
import type * as z from 'zod'
import { apiSocketOf, type ConfigFault, type GatewayConfig, statePathOf } from '../coordinator/config.ts'
import { configFaults, configNotices } from '../coordinator/config-faults.ts'
import type { FilterRuleConfig } from '../coordinator/filter.ts'
import { helperFaults } from '../coordinator/helpers/helper-check.ts'
import { moduleAt } from '../coordinator/helpers/helper-config.ts'
import { MOST_WORKERS, mostWorkers, type PlannedConfig } from '../coordinator/memory-plan.ts'
import { EXIT } from './exit-codes.ts'
import { KEYS, namesAt, VARIABLES } from './keys.ts'
import { alike, nearest } from './nearest.ts'
import { keyName, type Path, type Problem, shown } from './problem.ts'
import { FLOW_PROTOCOLS } from './protocols.ts'
import { WHOLE } from './schema/whole.ts'
import { type Settings, schema } from './schema.ts'
import { readSources, type SourceOptions, type Sources, valueAt } from './sources.ts'
import { timeoutsOf } from './timeouts.ts'

export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly code = 'CONFIGURATION'
  readonly exitCode = EXIT.configuration
  readonly problems: readonly Problem[]
  constructor(problems: readonly Problem[]) {
    const lines = problems.map(({ where, what }) => `  ${where}: ${what}`)
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`
    super([`the configuration has ${count}`, ...lines].join('\n'))
    this.problems = problems
  }
}

export interface Loaded {
  readonly config: GatewayConfig
  /** What is not refused, and should be known: a sentence each, that begins with the place. */
  readonly notices: readonly string[]
  readonly settings: Settings
  readonly sources: Sources
}

/** Throws ConfigError. */
export function loadConfig(options: SourceOptions): Loaded {
  const sources = readSources(options)
  const { data: settings, error } = schema.safeParse(sources.tree)
  const problems = [...sources.problems, ...(error?.issues ?? []).flatMap((issue) => problemsOf(issue, sources))]
  if (!settings || problems.length > 0) throw new ConfigError(problems)
  const config = {
    ...configOf(settings, sources),
    labFaults: options.env.NATLOOM_LAB_FAULTS,
    labRules: options.env.NATLOOM_LAB_RULES,
  }
  const faults = configFaults(config, totalmem())
  if (faults.length > 0) throw new ConfigError(faults.map((fault) => faultProblem(fault, sources)))
  const notices = configNotices(config)
    .map((notice) => faultProblem(notice, sources))
    .map(({ where, what }) => `${where}: ${what}`)
  return { config, settings, sources, notices }
}

/**
 * Tries the helpers, as `run` does at its start: for `check`, because a module's code runs. Throws ConfigError.
 */
export async function tryHelpers({ config, sources }: Loaded): Promise<void> {
  const faults = [...(await helperFaults(config.helpers))]
  if (faults.length === 0) return
  throw new ConfigError(
    faults.map(([place, what]) => {
      const path = ['helpers', place]
      return { where: locate(path, sources), what }
    }),
  )
}

const faultProblem = ({ path, fault, remedy }: ConfigFault, sources: Sources): Problem => ({
  where: locate(path, sources),
  what: `${fault}; ${remedy}`,
})

function problemsOf(issue: z.core.$ZodIssue, sources: Sources): Problem[] {
  const { path } = issue
  if (issue.code === 'unrecognized_keys') return issue.keys.map((name) => unknownKey(path, name, sources))
  if (issue.code === 'custom' && issue.params?.whole === WHOLE.whole)
    return [{ where: locate(path, sources), what: issue.message }]
  const value = valueAt(sources.tree, path)
  if (value === undefined) {
    // A file that can't be read may well set the key.
    if (!sources.complete) return []
    const variable = VARIABLES.find((key) => keyName(key.path) === keyName(path))?.variable
    // A key of a mapping in a list has no variable of its own; the error names the line of the mapping.
    if (variable === undefined)
      return [{ where: locate(path.slice(0, -1), sources, path), what: `not set; allowed: ${issue.message}` }]
    return [{ where: keyName(path), what: `not set; set it in the file or by ${variable}: ${issue.message}` }]
  }
  const what = `${shown(value)} is not allowed; allowed: ${issue.message}${meantWord(issue, value)}`
  return [{ where: locate(path, sources), what }]
}

/** Other programs' words for yes and no. */
const FLAGS: Readonly<Record<string, boolean>> = { yes: true, on: true, 1: true, no: false, off: false, 0: false }

/** Of a key that takes certain words: the one that is probably meant. */
function meantWord(issue: z.core.$ZodIssue, value: unknown): string {
  const written = String(value).toLowerCase()
  if (issue.code === 'invalid_type' && issue.expected === 'boolean') {
    const flag = FLAGS[written] ?? ['true', 'false'].find((word) => word === written)
    return flag === undefined ? '' : `; did you mean ${flag}?`
  }
  if (issue.code !== 'invalid_value' || typeof value !== 'string') return ''
  const meant = nearest(written, issue.values.map(String), (word) => word)
  return meant !== undefined && alike(written, meant) ? `; did you mean ${meant}?` : ''
}

/** Where a value was set: a variable, or a line of the file with the key. */
function locate(path: Path, sources: Sources, meant = path): string {
  const origin = sources.origin(path)
  if (origin === undefined) return keyName(meant)
  return VARIABLES.some(({ variable }) => variable === origin) ? origin : `${origin}: ${keyName(meant)}`
}

function unknownKey(section: Path, name: string, sources: Sources): Problem {
  const here = namesAt(section)
  const misspelt = nearest(name, here, (word) => word)
  const misplaced = KEYS.find(({ path }) => path.at(-1) === name)
  const meant =
    misspelt && alike(name, misspelt) ? keyName([...section, misspelt]) : misplaced && keyName(misplaced.path)
  const advice = meant ? `did you mean ${meant}?` : `allowed here: ${here.join(', ')}`
  return { where: locate([...section, name], sources), what: `no such key; ${advice}` }
}

const BYTES_A_CONNECTION = 512

/** As many connections as fit into a 16th of the host's memory; half a kilobyte each, with mapping and indices. */
const connectionsFor = (memory: number): number =>
  Math.min(262_144, Math.max(16_384, Math.floor(memory / 16 / BYTES_A_CONNECTION)))

/**
 * One core is left to the kernel, which delivers the packets, and to the host's own programs; of many cores, as many
 * are used as there is packet memory for.
 */
const workersFor = (cores: number, config: PlannedConfig): number =>
  mostWorkers(config, Math.min(MOST_WORKERS, Math.max(1, cores - 1)))

function configOf(settings: Settings, sources: Sources): GatewayConfig {
  const { name, api, statePath, nat, timeouts } = settings
  const capacity = { ...settings.capacity, connections: settings.capacity.connections ?? connectionsFor(totalmem()) }
  const workers = settings.workers ?? workersFor(availableParallelism(), { ...settings, capacity, workers: 1 })
  return {
    ...settings,
    api: { socket: api.socket ?? apiSocketOf(name) },
    statePath: statePath ?? statePathOf(name),
    workers,
    nat: { ...nat, protocols: [...new Set(nat.protocols.map(protocolNumber))] },
    filter: settings.filter.map(filterRule),
    helpers: settings.helpers.map(({ name = '', path, ...rest }) => ({
      ...rest,
      module: path === undefined ? name : moduleAt(sources.folder(['helpers']), path),
    })),
    timeouts: timeoutsOf(timeouts),
    capacity,
  }
}

const protocolNumber = (protocol: string | number): number =>
  typeof protocol === 'number' ? protocol : (FLOW_PROTOCOLS[protocol] as number)

export const filterRule = ({ proto, ...rule }: Settings['filter'][number]): FilterRuleConfig =>
  proto === undefined ? rule : { ...rule, proto: protocolNumber(proto) }
