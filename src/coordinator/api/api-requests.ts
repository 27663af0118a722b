// What programs send to the API, read with care: it comes from outside of the process.

import { isAbsolute } from 'node:path'
import { BUILTIN_HELPERS, isServer } from '../helpers/helper-config.ts'
import type { HelperRequest } from '../helpers/helper-manager.ts'

/** A request that can't be understood, or must not be. */
export class ApiRefusal extends Error {
  override readonly name = 'ApiRefusal'
  readonly status: number
  readonly code: string
  constructor(status: number, code: string, message: string) {
    super(message)
    this.status = status
    this.code = code
  }
}

type Fields = Readonly<Record<string, unknown>>

/** The body of `POST /helpers`. Throws ApiRefusal. */
export function helperRequest(text: string): HelperRequest {
  const { module, ports, servers, options, ...others } = fieldsOf(text)
  for (const name of Object.keys(others)) refuse(name, 'no such field: module, ports, servers, options')
  if (typeof module !== 'string' || !(BUILTIN_HELPERS.includes(module) || isAbsolute(module)))
    return refuse('module', `one of ${BUILTIN_HELPERS.join(', ')}, or the absolute path of a module`)
  return {
    module,
    ports: listOf('ports', ports, isPort, 'a list of numbers from 1 to 65535'),
    servers: listOf('servers', servers, isServerText, 'a list of addresses and prefixes'),
    options: options === undefined || isFields(options) ? options : refuse('options', 'an object'),
  }
}

function fieldsOf(text: string): Fields {
  try {
    const value: unknown = JSON.parse(text)
    if (isFields(value)) return value
  } catch {
    // Said below.
  }
  throw new ApiRefusal(400, 'API_REQUEST', 'the body must be a JSON object')
}

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isPort = (value: unknown): value is number =>
  Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65535
const isServerText = (value: unknown): value is string => typeof value === 'string' && isServer(value)

function listOf<T>(name: string, value: unknown, is: (each: unknown) => each is T, what: string): T[] | undefined {
  if (value === undefined) return undefined
  return Array.isArray(value) && value.every(is) ? value : refuse(name, what)
}

function refuse(name: string, what: string): never {
  throw new ApiRefusal(400, 'API_REQUEST', `${name}: ${what}`)
}
