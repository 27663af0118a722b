// The gateway's API for the command line and other programs on this host: HTTP on a unix socket that only its own user
// may connect to. Main thread; long answers are streamed. A request that can't be fulfilled is answered by a status and
// `{"error": {"code", "message"}}`.
//
//   GET    /connections     every shard's connections as a JSON array, one a line (connection-list.ts)
//   GET    /expectations    the expectations in force, in the same form (expectation-list.ts)
//   GET    /hosts           inside hosts, and how much each has of what it may have (host-list.ts)
//   GET    /drops           what was dropped, by interface and reason, and of whom (drop-list.ts)
//   GET    /helpers         the helpers in force, in the order in which they were loaded (helper-manager.ts)
//   POST   /helpers         {module, ports?, servers?, options?, onFailure?}: loads one; 201, and the helper
//   DELETE /helpers/NAME    unloads one; 200, and the helper

import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { HelperError, type HelperErrorCode } from '../helpers/errors.ts'
import type { HelperRequest, LoadedHelper } from '../helpers/helper-manager.ts'
import { ApiRefusal, helperRequest } from './api-requests.ts'
import { listenAt } from './api-socket.ts'

export interface ApiOptions {
  /** Absolute path; its directory is made if it doesn't exist. */
  readonly socket: string
  /** The text of the answer, in pieces. */
  connections(): AsyncIterable<string>
  /** The text of the answer, in pieces. */
  expectations(): AsyncIterable<string>
  /** The text of the answer, in pieces. */
  hosts(): AsyncIterable<string>
  /** The text of the answer. */
  drops(): string
  readonly helpers: {
    list(): readonly LoadedHelper[]
    /** Throws HelperError. */
    load(request: HelperRequest): Promise<LoadedHelper>
    /** Throws HelperError. */
    unload(name: string): Promise<LoadedHelper>
  }
}

interface Answer {
  readonly status: number
  readonly body: string | AsyncIterable<string>
  readonly allow?: string
}

const PATHS = '/connections, /expectations, /hosts, /drops, /helpers'
const HELPER = /^\/helpers\/([^/]+)$/
const MOST_BYTES = 1 << 18
/** At a time: each may keep an answer, or a piece of one, that it doesn't read. One more is closed. */
export const MOST_CONNECTIONS = 64

const STATUS: Readonly<Record<HelperErrorCode, number>> = {
  HELPER_MODULE: 422,
  HELPER_EXISTS: 409,
  HELPER_UNKNOWN: 404,
  HELPER_SHARD: 422,
  HELPER_LIMIT: 409,
}

export class ApiServer {
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
  }

  /** Resolves once it answers. Throws ApiError. */
  static async start(options: ApiOptions): Promise<ApiServer> {
    const server = createServer((request, response) => {
      // A client that closes the connection before the end is no fault.
      serve(request, response, options).catch(() => response.destroy())
    })
    server.maxConnections = MOST_CONNECTIONS
    await listenAt(server, options.socket)
    return new ApiServer(server)
  }

  /** Removes the socket and ends answers that are under way. */
  async close(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }
}

async function serve(request: IncomingMessage, response: ServerResponse, options: ApiOptions): Promise<void> {
  const { status, body, allow } = await answerTo(request, options)
  response.writeHead(status, { 'content-type': 'application/json', ...(allow && { allow }) })
  if (typeof body === 'string') response.end(body)
  else await pipeline(Readable.from(body), response)
}

async function answerTo(request: IncomingMessage, options: ApiOptions): Promise<Answer> {
  try {
    return await routed(request, options)
  } catch (error) {
    if (error instanceof ApiRefusal) return refusal(error.status, error.code, error.message)
    if (error instanceof HelperError) return refusal(STATUS[error.code], error.code, error.message)
    throw error
  }
}

async function routed(
  request: IncomingMessage,
  { connections, expectations, hosts, drops, helpers }: ApiOptions,
): Promise<Answer> {
  // Read first, whatever is asked for: a client that is still sending would not see why it is refused.
  const body = await bodyOf(request)
  const path = request.url?.split('?', 1)[0] ?? ''
  const only = (method: string): boolean => request.method === method
  if (path === '/connections') return only('GET') ? { status: 200, body: connections() } : notAllowed('GET')
  if (path === '/expectations') return only('GET') ? { status: 200, body: expectations() } : notAllowed('GET')
  if (path === '/hosts') return only('GET') ? { status: 200, body: hosts() } : notAllowed('GET')
  if (path === '/drops') return only('GET') ? { status: 200, body: drops() } : notAllowed('GET')
  if (path === '/helpers') {
    if (only('GET')) return json(200, helpers.list())
    if (!only('POST')) return notAllowed('GET, POST')
    return json(201, await helpers.load(helperRequest(body)))
  }
  const name = HELPER.exec(path)?.[1]
  if (name === undefined) return refusal(404, 'API_PATH', `here is ${PATHS}`)
  return only('DELETE') ? json(200, await helpers.unload(name)) : notAllowed('DELETE')
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of request as AsyncIterable<Buffer>) {
    bytes += piece.length
    // What is over the limit is read and discarded.
    if (bytes <= MOST_BYTES) pieces.push(piece)
  }
  if (bytes > MOST_BYTES) throw new ApiRefusal(413, 'API_REQUEST', `at most ${MOST_BYTES} bytes`)
  return Buffer.concat(pieces).toString()
}

const json = (status: number, value: unknown): Answer => ({ status, body: `${JSON.stringify(value)}\n` })
const refusal = (status: number, code: string, message: string): Answer => json(status, { error: { code, message } })
const notAllowed = (allow: string): Answer => ({ ...refusal(405, 'API_METHOD', `allowed: ${allow}`), allow })
