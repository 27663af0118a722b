// Starts the gateway between the lab's LAN and its outside: the real `natloom run` or, to compare, the kernel's own
// forwarding with nft masquerade (kernel-gateway.ts). Both run in the gateway's namespace, and undo all that they did
// when they are stopped.

import { once } from 'node:events'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Namespace } from '../world/namespace.ts'
import { PATIENCE_MS } from '../world/patience.ts'
import type { Processes, Program } from '../world/processes.ts'
import { INSIDE_INTERFACE, OUTSIDE_INTERFACE, type Topology } from '../world/topology.ts'
import type { Gateway, GatewayOptions, PortForward } from './gateway-options.ts'
import { startKernel } from './kernel-gateway.ts'
import type { Scraper } from './scraper.ts'

const METRICS_LISTEN = '127.0.0.1:9464'
export const METRICS_URL = `http://${METRICS_LISTEN}/metrics`

const COMMAND = new URL('../../control/main.js', import.meta.url)
const SCRAPER = new URL('./scraper.js', import.meta.url)

const SCRAPE_EVERY_MS = 200

export function startGateway(options: GatewayOptions, topology: Topology, processes: Processes): Promise<Gateway> {
  if (options.kind === 'kernel') return startKernel(topology.gateway, options)
  return startNatloom(topology.gateway, processes, options)
}

async function startNatloom(
  host: Namespace,
  processes: Processes,
  { stateFile, workers, dispatch, watched, helpers, portForwards = [] }: GatewayOptions,
): Promise<Gateway> {
  // Beside the state file, so that it is not the API of a gateway that runs on this machine.
  const apiSocket = join(dirname(stateFile), 'api.sock')
  const natloom = processes.start(host, process.execPath, [fileURLToPath(COMMAND), 'run'], {
    name: 'natloom run',
    env: {
      NATLOOM_INSIDE: INSIDE_INTERFACE,
      NATLOOM_OUTSIDE: OUTSIDE_INTERFACE,
      NATLOOM_METRICS_LISTEN: METRICS_LISTEN,
      NATLOOM_STATE_PATH: stateFile,
      NATLOOM_API_SOCKET: apiSocket,
      ...(workers === undefined ? {} : { NATLOOM_WORKERS: String(workers) }),
      ...(dispatch === undefined ? {} : { NATLOOM_DISPATCH: dispatch }),
      ...(helpers === undefined ? {} : { NATLOOM_HELPERS: helpers.join() }),
      ...(portForwards.length === 0 ? {} : { NATLOOM_FORWARD: portForwards.map(portForwardText).join() }),
      // The configuration of a gateway on this machine is not for the lab, unless the environment names it.
      NATLOOM_CONFIG: process.env.NATLOOM_CONFIG ?? '/dev/null',
    },
  })
  const failed = natloom.ended.then(({ code, signal }) => {
    throw new Error(`natloom run ended by itself with ${code ?? signal}:\n${natloom.output}`)
  })
  failed.catch(() => {})

  const scraping: Scraper = { url: METRICS_URL, everyMs: SCRAPE_EVERY_MS }
  const scraper = processes.startModule(host, SCRAPER, scraping)
  let text: string | undefined
  scraper.child.on('message', (message) => {
    text = String(message)
  })

  // The endpoint answers only when the gateway forwards packets.
  const answered = once(scraper.child, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) })
  await Promise.race([answered, failed]).catch((error: Error) => {
    if (error.name !== 'AbortError') throw error
    throw new Error(`natloom run did not answer at ${METRICS_URL} within ${PATIENCE_MS / 1000} s:\n${natloom.output}`)
  })

  if (!watched) scraper.child.kill('SIGTERM')

  return {
    kind: 'natloom',
    apiSocket,
    metrics: () => text,
    async metricsFromNow() {
      // The next message may have been read before this call, the one after it was not.
      for (let messages = 0; messages < 2; messages++)
        await once(scraper.child, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) })
      return text
    },
    failed,
    async stop() {
      scraper.child.kill('SIGTERM')
      return stopNatloom(natloom)
    },
  }
}

const portForwardText = ({ protocol, port, to }: PortForward): string => `${protocol} :${port} ${to}:${port}`

async function stopNatloom(natloom: Program): Promise<string[]> {
  natloom.child.kill('SIGTERM')
  try {
    const { code, signal } = await natloom.within(PATIENCE_MS)
    return code === 0 ? [] : [`natloom run ended with ${code ?? signal} after SIGTERM:\n${natloom.output}`]
  } catch (error) {
    return [(error as Error).message]
  }
}
