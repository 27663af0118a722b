// The name of the API's unix socket: there while the gateway runs, gone after it, and whose it is.
//
//   what has the name                  becomes
//   nothing                            ours
//   a socket that somebody listens at  stays: an error, the other gateway goes on
//   a socket that nobody listens at    taken away, as a killed gateway leaves it, then ours
//   anything else                      stays: an error
// Never: a socket that others than its owner may connect to, not even for a moment (mode 0600 from the first).

import { once } from 'node:events'
import { linkSync, lstatSync, mkdirSync, renameSync, unlinkSync } from 'node:fs'
import { connect, type Server } from 'node:net'
import { dirname } from 'node:path'

type ApiErrorCode =
  /** Another gateway serves there. */
  | 'API_SOCKET_IN_USE'
  /** The socket can't be made. */
  | 'API_SOCKET'

class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly code: ApiErrorCode
  constructor(code: ApiErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

const CHANGE = 'or set api.socket or NATLOOM_API_SOCKET to another path'
const NOT_OTHERS = 0o177

/** Resolves once the server listens there; closing it takes the name back. Throws ApiError. */
export async function listenAt(server: Server, path: string): Promise<void> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    if (await tryToListen(server, path)) return
    await takeStaleAway(path)
    if (await tryToListen(server, path)) return
  } catch (error) {
    if (error instanceof ApiError) throw error
    const { code, message } = error as NodeJS.ErrnoException
    throw new ApiError('API_SOCKET', `can't listen at api.socket ${path} (${code ?? message}): make room, ${CHANGE}`, {
      cause: error,
    })
  }
  throw inUse(path)
}

const inUse = (path: string): ApiError =>
  new ApiError('API_SOCKET_IN_USE', `another natloom serves its API at api.socket ${path}: stop it, ${CHANGE}`)

/** False if something has the name. */
async function tryToListen(server: Server, path: string): Promise<boolean> {
  // The name is made within listen(), and nothing else runs meanwhile.
  const before = process.umask(NOT_OTHERS)
  try {
    server.listen(path)
  } finally {
    process.umask(before)
  }
  try {
    await once(server, 'listening')
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return false
    throw error
  }
}

async function takeStaleAway(path: string): Promise<void> {
  if (!lstatSync(path).isSocket())
    throw new ApiError('API_SOCKET', `api.socket ${path} is there and is no socket: remove it, ${CHANGE}`)
  if (await answers(path)) throw inUse(path)
  // Another gateway may have replaced it since: what is taken away is asked once more.
  const aside = `${path}.${process.pid}`
  renameSync(path, aside)
  try {
    if (!(await answers(aside))) return
    linkSync(aside, path)
    throw inUse(path)
  } finally {
    unlinkSync(aside)
  }
}

async function answers(path: string): Promise<boolean> {
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') return false
    throw error
  } finally {
    socket.destroy()
  }
}
