// The client of a running gateway's API (coordinator/api/api.ts): HTTP over its unix socket. Answers are read as they come,
// a line at a time, so that a million connections need no memory.

import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { createInterface } from 'node:readline'
import { json } from 'node:stream/consumers'
import type { Connection as ListedConnection } from '../coordinator/api/connection-list.ts'
import type { Expectation as ListedExpectation } from '../coordinator/api/expectation-list.ts'
import type { HelperRequest, LoadedHelper } from '../coordinator/helpers/helper-manager.ts'
import { EXIT } from './exit-codes.ts'
import { DEFAULT_API_SOCKET } from './schema.ts'
import { readSources, type SourceOptions, valueAt } from './sources.ts'

/** What `GET /connections` says of each. */
export type Connection = ListedConnection

/** What `GET /expectations` says of each. */
export type Expectation = ListedExpectation

/** What `GET /helpers` says of each. */
export type Helper = LoadedHelper

type ApiClientErrorCode =
  /** Nobody listens there. */
  | 'API_NO_GATEWAY'
  /** The socket is another user's. */
  | 'API_RIGHTS'
  /** The gateway ended, or knows nothing of it. */
  | 'API_ANSWER'
  /** The gateway has said why not. */
  | 'API_REFUSED'

class ApiClientError extends Error {
  override readonly name = 'ApiClientError'
  readonly exitCode: number
  readonly code: ApiClientErrorCode
  constructor(code: ApiClientErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.exitCode = code === 'API_REFUSED' ? EXIT.configuration : EXIT.host
  }
}

/** Where the gateway that this configuration describes has its API. The rest of the configuration is not asked. */
export function apiSocket(options: SourceOptions): string {
  const path = valueAt(readSources(options).tree, ['api', 'socket'])
  return typeof path === 'string' ? path : DEFAULT_API_SOCKET
}

/** What is asked for, if it is not to be read only. */
interface Asked {
  readonly method: 'POST' | 'DELETE'
  readonly body?: string
}

/** The lines of an answer. Throws ApiClientError, also in the middle: what came until then was not all. */
export async function* answerOf(socket: string, path: string, { method, body }: Partial<Asked> = {}) {
  try {
    const asked = request({ socketPath: socket, path, agent: false, method: method ?? 'GET' }).end(body)
    const [response] = (await once(asked, 'response')) as [IncomingMessage]
    // What goes wrong from now on is the answer's to say.
    asked.on('error', () => {})
    const { statusCode = 0 } = response
    if (statusCode >= 300) throw await refused(socket, path, response)
    let failure: Error | undefined
    response.on('error', (error) => {
      failure = error
    })
    yield* createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY })
    if (failure || !response.complete) throw failure ?? new Error('aborted')
  } catch (error) {
    throw error instanceof ApiClientError ? error : refusal(socket, error as NodeJS.ErrnoException)
  }
}

/** Every connection of every shard. Throws ApiClientError. */
export const connections = (socket: string): AsyncGenerator<Connection> => elements(socket, '/connections')

/** All that stands expected. Throws ApiClientError. */
export const expectations = (socket: string): AsyncGenerator<Expectation> => elements(socket, '/expectations')

/** Of an array with one a line. */
async function* elements<T>(socket: string, path: string): AsyncGenerator<T> {
  for await (const line of answerOf(socket, path))
    if (line.startsWith('{')) yield JSON.parse(line.replace(/,$/, '')) as T
}

/** The helpers in force. Throws ApiClientError. */
export const helpers = (socket: string): Promise<readonly Helper[]> => value(socket, '/helpers')

/** Resolves when every shard reads new connections with it. Throws ApiClientError. */
export const loadHelper = (socket: string, wanted: HelperRequest): Promise<Helper> =>
  value(socket, '/helpers', { method: 'POST', body: JSON.stringify(wanted) })

/** Resolves when no shard knows it any more. Throws ApiClientError. */
export const unloadHelper = (socket: string, name: string): Promise<Helper> =>
  value(socket, `/helpers/${encodeURIComponent(name)}`, { method: 'DELETE' })

async function value<T>(socket: string, path: string, asked?: Asked): Promise<T> {
  let text = ''
  for await (const line of answerOf(socket, path, asked)) text += line
  return JSON.parse(text) as T
}

/** What an answer that is none says. */
async function refused(socket: string, path: string, response: IncomingMessage): Promise<ApiClientError> {
  const said = await json(response).catch(() => undefined)
  const { code, message } = (said as { error?: { code?: string; message?: string } } | undefined)?.error ?? {}
  if (message === undefined || code === 'API_PATH')
    return new ApiClientError('API_ANSWER', `the gateway at ${socket} has no ${path} (${response.statusCode})`)
  return new ApiClientError('API_REFUSED', message)
}

function refusal(socket: string, cause: NodeJS.ErrnoException): ApiClientError {
  const { code } = cause
  if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTDIR')
    return new ApiClientError(
      'API_NO_GATEWAY',
      `no gateway runs here: nobody listens at ${socket} (${code}); start one by \`natloom run\`, or name the socket ` +
        'of the one that runs (api.socket in its configuration) by --socket or NATLOOM_API_SOCKET',
      { cause },
    )
  if (code === 'EACCES' || code === 'EPERM')
    return new ApiClientError(
      'API_RIGHTS',
      `${socket} may not be used by this user (${code}): be the user that the gateway runs as, mostly root`,
      { cause },
    )
  return new ApiClientError(
    'API_ANSWER',
    `the gateway at ${socket} ended before its answer did (${code ?? cause.message}): ask again`,
    { cause },
  )
}
