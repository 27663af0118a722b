// The requests that the API reads: checked by a schema, because they come from outside of the process.

import { isAbsolute } from 'node:path'
import * as z from 'zod'
import { BUILTIN_HELPERS, isServer, ON_FAILURE } from '../helpers/helper-config.ts'
import type { HelperRequest } from '../helpers/helper-manager.ts'

/** A request that is malformed or asks for something that is not allowed. `status` is HTTP's, `code` the API's. */
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

const asked = {
  module: `one of ${BUILTIN_HELPERS.join(', ')}, or the absolute path of a module`,
  ports: 'a list of numbers from 1 to 65535',
  servers: 'a list of addresses and prefixes',
  options: 'an object',
  onFailure: ON_FAILURE.join(' or '),
} as const
const isAsked = (field: unknown): field is keyof typeof asked => typeof field === 'string' && field in asked

/** The body of `POST /helpers`. */
const helperFields = z.strictObject({
  module: z.string().refine((text) => BUILTIN_HELPERS.includes(text) || isAbsolute(text)),
  ports: z.array(z.int().min(1).max(65535)).optional(),
  servers: z.array(z.string().refine(isServer)).optional(),
  options: z.record(z.string(), z.unknown()).optional(),
  onFailure: z.enum(ON_FAILURE).optional(),
})

/** Says what a field must be. zod's own messages say only what a value is not. */
function messageOf({ code, path, ...issue }: z.core.$ZodIssue): string {
  if (code === 'unrecognized_keys' && 'keys' in issue)
    return `${issue.keys[0]}: no such field: ${Object.keys(asked).join(', ')}`
  const [field] = path
  return isAsked(field) ? `${field}: ${asked[field]}` : 'the body must be a JSON object'
}

/** Reads the body of `POST /helpers`. Throws ApiRefusal. */
export function helperRequest(text: string): HelperRequest {
  const { data, error } = helperFields.safeParse(parsed(text))
  if (data) return data
  throw new ApiRefusal(400, 'API_REQUEST', messageOf(error.issues[0] as z.core.$ZodIssue))
}

/** Undefined if the text is no JSON: the schema then refuses it as it refuses everything that is no object. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
