// The client of a running gateway's API (coordinator/api.ts): HTTP over its unix socket. Answers are read as they come,
// a line at a time, so that a million connections need no memory.

import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { createInterface } from 'node:readline'
import type { Connection as ListedConnection } from '../coordinator/connection-list.ts'
import { EXIT } from './exit-codes.ts'
import { DEFAULT_API_SOCKET } from './schema.ts'
import { readSources, type SourceOptions, valueAt } from './sources.ts'

/** What `GET /connections` says of each. */
export type Connection = ListedConnection

type ApiClientErrorCode =
  /** Nobody listens there. */
  | 'API_NO_GATEWAY'
  /** The socket is another user's. */
  | 'API_RIGHTS'
  /** The gateway ended, or refused. */
  | 'API_ANSWER'

class ApiClientError extends Error {
  override readonly name = 'ApiClientError'
  readonly exitCode = EXIT.host
  readonly code: ApiClientErrorCode
  constructor(code: ApiClientErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** Where the gateway that this configuration describes has its API. The rest of the configuration is not asked. */
export function apiSocket(options: SourceOptions): string {
  const path = valueAt(readSources(options).tree, ['api', 'socket'])
  return typeof path === 'string' ? path : DEFAULT_API_SOCKET
}

/** The lines of an answer. Throws ApiClientError, also in the middle: what came until then was not all. */
export async function* answerOf(socket: string, path: string): AsyncGenerator<string> {
  try {
    const asked = request({ socketPath: socket, path, agent: false }).end()
    const [response] = (await once(asked, 'response')) as [IncomingMessage]
    if (response.statusCode !== 200)
      throw new ApiClientError('API_ANSWER', `the gateway at ${socket} has no ${path} (${response.statusCode})`)
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
export async function* connections(socket: string): AsyncGenerator<Connection> {
  for await (const line of answerOf(socket, '/connections'))
    if (line.startsWith('{')) yield JSON.parse(line.replace(/,$/, '')) as Connection
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
