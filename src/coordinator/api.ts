// The gateway's API for the command line and other programs of this host: HTTP on a unix socket that only its own user
// may connect to. Main thread; answers are streamed.
//
//   GET /connections   every shard's connections as a JSON array, one a line (connection-list.ts)

import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { listenAt } from './api-socket.ts'

export interface ApiOptions {
  /** Absolute path; the directory is made if it isn't there. */
  readonly socket: string
  /** The text of the answer, in pieces. */
  connections(): AsyncIterable<string>
}

export class ApiServer {
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
  }

  /** Resolves once it answers. Throws ApiError. */
  static async start({ socket, connections }: ApiOptions): Promise<ApiServer> {
    const server = createServer((request, response) => {
      // A reader that goes away before the end is no fault.
      answer(request, response, connections).catch(() => response.destroy())
    })
    await listenAt(server, socket)
    return new ApiServer(server)
  }

  /** Takes the socket away; ends answers that are under way. */
  async close(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  connections: () => AsyncIterable<string>,
): Promise<void> {
  if (request.method !== 'GET') {
    response.writeHead(405, { allow: 'GET' }).end()
  } else if (request.url?.split('?', 1)[0] === '/connections') {
    response.writeHead(200, { 'content-type': 'application/json' })
    await pipeline(Readable.from(connections()), response)
  } else {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('here is /connections\n')
  }
}
