// The HTTP server for monitoring: /metrics (Prometheus), /healthz (load balancers, orchestrators). Main thread; it gets
// a handful of requests a minute.

import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, isIPv6 } from 'node:net'
import type { Registry } from 'prom-client'
import { parseListen } from './listen.ts'

export interface Health {
  /** Why the gateway isn't healthy, each as a sentence for people; none while all is well. */
  readonly reasons: readonly string[]
  /** The state of the gateway's parts, as JSON. */
  readonly detail: unknown
}

export interface MetricsServerOptions {
  /** `address:port`; see listen.ts. */
  readonly listen: string
  readonly registry: Registry
  health(): Health
}

export type MetricsErrorCode =
  /** Another program listens at the address. */
  | 'METRICS_ADDRESS_IN_USE'
  /** The host has no such address, or the port needs a right. */
  | 'METRICS_ADDRESS'

export class MetricsError extends Error {
  override readonly name = 'MetricsError'
  readonly code: MetricsErrorCode
  constructor(code: MetricsErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** At a time: each may keep an answer of a hundred kilobytes that it doesn't read. One more is closed. */
export const MOST_CONNECTIONS = 256

export class MetricsServer {
  /** The URL of the metrics: `http://127.0.0.1:9464/metrics`. */
  readonly url: string
  readonly #server: Server

  private constructor(server: Server) {
    const { address, port } = server.address() as AddressInfo
    this.url = `http://${isIPv6(address) ? `[${address}]` : address}:${port}/metrics`
    this.#server = server
  }

  /** Resolves once it answers. Throws MetricsError. */
  static async start({ listen, registry, health }: MetricsServerOptions): Promise<MetricsServer> {
    const where = parseListen(listen)
    if (!where)
      throw new MetricsError('METRICS_ADDRESS', `metrics.listen is ${listen}; allowed: address:port, as 127.0.0.1:9464`)
    const server = createServer((request, response) => {
      answer(request, response, registry, health).catch((error: Error) => {
        response.writeHead(500, { 'content-type': 'text/plain' }).end(`${error.message}\n`)
      })
    })
    server.maxConnections = MOST_CONNECTIONS
    server.listen(where)
    try {
      await once(server, 'listening')
    } catch (error) {
      throw refusal(listen, error as NodeJS.ErrnoException)
    }
    return new MetricsServer(server)
  }

  /** Closes the server and its connections, idle and busy ones. */
  async close(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }
}

function refusal(listen: string, cause: NodeJS.ErrnoException): MetricsError {
  const change = 'set metrics.listen or NATLOOM_METRICS_LISTEN to another address:port'
  if (cause.code === 'EADDRINUSE')
    return new MetricsError(
      'METRICS_ADDRESS_IN_USE',
      `metrics.listen ${listen} is taken by another program (\`ss -ltnp\` names it): end that one, or ${change}`,
      { cause },
    )
  return new MetricsError('METRICS_ADDRESS', `can't listen on metrics.listen ${listen} (${cause.code}): ${change}`, {
    cause,
  })
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  registry: Registry,
  health: () => Health,
): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD' }).end()
    return
  }
  const path = request.url?.split('?', 1)[0]
  if (path === '/metrics') {
    const text = await registry.metrics()
    response.writeHead(200, { 'content-type': registry.contentType }).end(text)
  } else if (path === '/healthz') {
    const { reasons, detail } = health()
    const ok = reasons.length === 0
    response
      .writeHead(ok ? 200 : 503, { 'content-type': 'application/json' })
      .end(`${JSON.stringify({ ok, reasons, detail })}\n`)
  } else {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('here are /metrics and /healthz\n')
  }
}
