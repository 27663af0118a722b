// Makes the gateway's configuration (coordinator/config.ts) of what file and environment say (sources.ts): checked
// against the schema, all problems reported at once, each with the key as the user wrote it, the value, and what is
// allowed.

import { availableParallelism, totalmem } from 'node:os'
import type * as z from 'zod'
import { apiSocketOf, type GatewayConfig, statePathOf } from '../coordinator/config.ts'
import type { FilterRuleConfig } from '../coordinator/filter.ts'
import { moduleAt } from '../coordinator/helpers/helper-config.ts'
import { EXIT } from './exit-codes.ts'
import { KEYS, namesAt, VARIABLES } from './keys.ts'
import { alike, nearest } from './nearest.ts'
import { FLOW_PROTOCOLS } from './protocols.ts'
import { MAX_WORKERS } from './schema/threads.ts'
import { type Settings, schema } from './schema.ts'
import { keyName, type Path, type Problem, readSources, type SourceOptions, type Sources, valueAt } from './sources.ts'
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
  readonly settings: Settings
  readonly sources: Sources
}

/** Throws ConfigError. */
export function loadConfig(options: SourceOptions): Loaded {
  const sources = readSources(options)
  const { data: settings, error } = schema.safeParse(sources.tree)
  const problems = [...sources.problems, ...(error?.issues ?? []).flatMap((issue) => problemsOf(issue, sources))]
  if (!settings || problems.length > 0) throw new ConfigError(problems)
  return { config: configOf(settings, sources), settings, sources }
}

function problemsOf(issue: z.core.$ZodIssue, sources: Sources): Problem[] {
  const { path } = issue
  if (issue.code === 'unrecognized_keys') return issue.keys.map((name) => unknownKey(path, name, sources))
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
  return [{ where: locate(path, sources), what: `${JSON.stringify(value)} is not allowed; allowed: ${issue.message}` }]
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

/** One core is left to the kernel, which delivers the packets, and to the host's own programs. */
const workersFor = (cores: number): number => Math.min(MAX_WORKERS, Math.max(1, cores - 1))

function configOf(settings: Settings, sources: Sources): GatewayConfig {
  const { name, api, statePath, nat, timeouts, capacity } = settings
  return {
    ...settings,
    api: { socket: api.socket ?? apiSocketOf(name) },
    statePath: statePath ?? statePathOf(name),
    workers: settings.workers ?? workersFor(availableParallelism()),
    nat: { ...nat, protocols: [...new Set(nat.protocols.map(protocolNumber))] },
    filter: settings.filter.map(filterRule),
    helpers: settings.helpers.map(({ name = '', path, ...rest }) => ({
      ...rest,
      module: path === undefined ? name : moduleAt(sources.folder(['helpers']), path),
    })),
    timeouts: timeoutsOf(timeouts),
    capacity: { ...capacity, connections: capacity.connections ?? connectionsFor(totalmem()) },
  }
}

const protocolNumber = (protocol: string | number): number =>
  typeof protocol === 'number' ? protocol : (FLOW_PROTOCOLS[protocol] as number)

export const filterRule = ({ proto, ...rule }: Settings['filter'][number]): FilterRuleConfig =>
  proto === undefined ? rule : { ...rule, proto: protocolNumber(proto) }
