// The path of the API's unix socket: made at the start, removed at the stop, never taken from another gateway.
//
//   what is at the path                       then
//   nothing                                   the socket is made
//   a socket at which a process listens       an error; it belongs to another gateway, which goes on
//   a socket at which no process listens      left by a killed gateway: removed, and the socket is made
//   anything else                             an error; it stays
// Never: a socket that other users may connect to, not even for a moment (mode 0600 from the first).

import { once } from 'node:events'
import { linkSync, lstatSync, mkdirSync, renameSync, unlinkSync } from 'node:fs'
import { connect, type Server } from 'node:net'
import { dirname } from 'node:path'

type ApiErrorCode =
  /** Another gateway listens at the path. */
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

/** Resolves once the server listens at the path; closing the server removes it. Throws ApiError. */
export async function listenAt(server: Server, path: string): Promise<void> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    if (await tryToListen(server, path)) return
    await removeStale(path)
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

/** False if something is at the path. */
async function tryToListen(server: Server, path: string): Promise<boolean> {
  // The file is made within listen(), synchronously: no other code runs under this umask.
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

async function removeStale(path: string): Promise<void> {
  if (!lstatSync(path).isSocket())
    throw new ApiError('API_SOCKET', `api.socket ${path} is there and is no socket: remove it, ${CHANGE}`)
  if (await answers(path)) throw inUse(path)
  // Another gateway may have replaced it since: the socket is moved aside and tried once more before it is removed.
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
