// `natloom helper list`, `load` and `unload`: the helpers of a running gateway.

import { statSync } from 'node:fs'
import type { Writable } from 'node:stream'
import { BUILTIN_HELPERS, isModulePath, moduleAt, ON_FAILURE } from '../coordinator/helpers/helper-config.ts'
import { type Helper, helpers, loadHelper, unloadHelper } from './api-client.ts'
import { type Output, write } from './conntrack-command.ts'
import { EXIT } from './exit-codes.ts'
import { FILE_ERRORS } from './problem.ts'
import { isPrefix, prefixText } from './schema/addresses.ts'
import { helperNames } from './schema/helpers.ts'

export interface LoadOptions {
  readonly port?: readonly string[]
  readonly server?: readonly string[]
  readonly options?: string
  readonly onFailure?: string
}

/** The command line has a value that is not allowed. */
class HelperCommandError extends Error {
  override readonly name = 'HelperCommandError'
  readonly code = 'HELPER_COMMAND'
  readonly exitCode = EXIT.configuration
}

/** Throws ApiClientError. */
export async function listHelpers(socket: string, output: Output, to: Writable): Promise<void> {
  const loaded = await helpers(socket)
  if (output === 'json') return write(to, JSON.stringify(loaded, null, 2))
  for (const helper of loaded) await write(to, helperText(helper))
}

/** Throws ApiClientError, HelperCommandError. */
export async function load(socket: string, module: string, given: LoadOptions, to: Writable): Promise<void> {
  const { port = [], server = [], options, onFailure } = given
  const helper = await loadHelper(socket, {
    module: moduleOf(module),
    ports: port.map(portOf),
    servers: server.map(serverOf),
    options: options === undefined ? undefined : optionsOf(options),
    onFailure: onFailure === undefined ? undefined : onFailureOf(onFailure),
  })
  await write(to, helperText(helper))
}

/** Throws ApiClientError. */
export async function unload(socket: string, name: string, to: Writable): Promise<void> {
  await write(to, `unloaded ${(await unloadHelper(socket, name)).name}: its connections go on without it`)
}

/**
 * `ftp: tcp port 21 of any server, 1 expected at a time, for 300 s`; of a user’s module its path, of a failed one why.
 */
export function helperText(helper: Helper): string {
  const { name, module, protocol, ports, servers, options, onFailure, classes, state } = helper
  const where = ports.length === 0 ? 'every port' : `port ${ports.join(', ')}`
  const limits = classes.map(
    ({ name, maxExpected, timeoutSeconds }) =>
      `${classes.length > 1 ? `${name}: ` : ''}${maxExpected} expected at a time, for ${timeoutSeconds} s`,
  )
  return [
    `${name}: ${protocol} ${where} of ${servers.length === 0 ? 'any server' : servers.join(', ')}`,
    ...limits,
    ...(Object.keys(options).length === 0 ? [] : [`options ${JSON.stringify(options)}`]),
    ...(onFailure === 'pass' ? ['passes on what it cannot rewrite'] : []),
    ...(isModulePath(module) ? [`from ${module}`] : []),
    ...(state === 'in force' ? [] : [state]),
  ].join(', ')
}

/** Looked for here, where a path is relative to. */
function moduleOf(text: string): string {
  if (BUILTIN_HELPERS.includes(text)) return text
  if (!isModulePath(text)) throw new HelperCommandError(`"${text}" is no helper; allowed: ${helperNames(text)}`)
  const path = moduleAt(process.cwd(), text)
  const stats = statSync(path, { throwIfNoEntry: false })
  if (stats?.isFile()) return path
  const why = stats === undefined ? FILE_ERRORS.ENOENT : FILE_ERRORS.EISDIR
  throw new HelperCommandError(`${path} can't be loaded: ${why}; name the module by its path from here`)
}

function serverOf(text: string): string {
  if (isPrefix(text)) return text
  throw new HelperCommandError(`--server ${JSON.stringify(text)} is not allowed; allowed: ${prefixText(text)}`)
}

function portOf(text: string): number {
  if (/^[1-9][0-9]{0,4}$/.test(text) && Number(text) <= 65_535) return Number(text)
  throw new HelperCommandError(`--port ${JSON.stringify(text)} is not allowed; allowed: a number from 1 to 65535`)
}

function onFailureOf(text: string): (typeof ON_FAILURE)[number] {
  const found = ON_FAILURE.find((word) => word === text)
  if (found !== undefined) return found
  throw new HelperCommandError(`--on-failure ${JSON.stringify(text)} is not allowed; allowed: ${ON_FAILURE.join(', ')}`)
}

function optionsOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  } catch {
    // Refused below.
  }
  throw new HelperCommandError(
    `--options ${JSON.stringify(text)} is not allowed; allowed: a JSON object, such as '{"loose":true}'`,
  )
}
