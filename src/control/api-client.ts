// The client of a running gateway's API (coordinator/api/api.ts): HTTP over its unix socket. Answers are read a line at
// a time as they come, so that a list of a million connections needs no memory.

import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { createInterface } from 'node:readline'
import { json } from 'node:stream/consumers'
import type { Connection as ListedConnection } from '../coordinator/api/connection-list.ts'
import type { ListedDrops } from '../coordinator/api/drop-list.ts'
import type { Expectation as ListedExpectation } from '../coordinator/api/expectation-list.ts'
import type { ListedHost } from '../coordinator/api/host-list.ts'
import { apiSocketOf, DEFAULT_NAME } from '../coordinator/config.ts'
import type { HelperRequest, LoadedHelper } from '../coordinator/helpers/helper-manager.ts'
import { ConfigError } from './config.ts'
import { EXIT } from './exit-codes.ts'
import { readSources, type SourceOptions, valueAt } from './sources.ts'

/** A connection as `GET /connections` lists it. */
export type Connection = ListedConnection

/** An expectation as `GET /expectations` lists it. */
export type Expectation = ListedExpectation

/** An inside host as `GET /hosts` lists it. */
export type Host = ListedHost

/** What was dropped for one reason of what came by one interface, as `GET /drops` lists it. */
export type Drops = ListedDrops

/** A helper as `GET /helpers` lists it. */
export type Helper = LoadedHelper

type ApiClientErrorCode =
  /** No process listens at the socket. */
  | 'API_NO_GATEWAY'
  /** The socket belongs to another user. */
  | 'API_RIGHTS'
  /** The gateway ended before its answer did, or has no such path. */
  | 'API_ANSWER'
  /** The gateway refused, and said why. */
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

/**
 * The API's socket: the one that --socket names, or that of the gateway that this configuration describes. The rest of
 * the configuration is not checked. Throws ConfigError if it can't be read.
 */
export function apiSocket(options: SourceOptions, given?: string): string {
  if (given === '')
    throw new ConfigError([{ where: '--socket', what: '"" names no file; name one, or leave --socket out' }])
  if (given !== undefined) return given
  const { tree, complete, problems } = readSources(options)
  if (!complete) throw new ConfigError(problems)
  const [path, name] = [valueAt(tree, ['api', 'socket']), valueAt(tree, ['name'])]
  return typeof path === 'string' ? path : apiSocketOf(typeof name === 'string' ? name : DEFAULT_NAME)
}

/** A request that is no plain GET. */
interface Change {
  readonly method: 'POST' | 'DELETE'
  readonly body?: string
}

/** The lines of an answer. Throws ApiClientError, also after some lines: then the answer was not complete. */
export async function* answerOf(socket: string, path: string, { method, body }: Partial<Change> = {}) {
  try {
    const sent = request({ socketPath: socket, path, agent: false, method: method ?? 'GET' }).end(body)
    const [response] = (await once(sent, 'response')) as [IncomingMessage]
    // From now on errors are reported by the response; the request repeats them.
    sent.on('error', () => {})
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

/** Every expectation in force. Throws ApiClientError. */
export const expectations = (socket: string): AsyncGenerator<Expectation> => elements(socket, '/expectations')

/** Every inside host that has something. Throws ApiClientError. */
export const hosts = (socket: string): AsyncGenerator<Host> => elements(socket, '/hosts')

/** What was dropped, by interface and reason. Throws ApiClientError. */
export const drops = (socket: string): AsyncGenerator<Drops> => elements(socket, '/drops')

/** The elements of a JSON array that has one element a line. */
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

async function value<T>(socket: string, path: string, change?: Change): Promise<T> {
  let text = ''
  for await (const line of answerOf(socket, path, change)) text += line
  return JSON.parse(text) as T
}

/** The error that a refusal by the gateway stands for. */
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
