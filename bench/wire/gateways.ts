// What the bench puts between LAN and outside: natloom, the kernel's NAT, or `bare`, a forwarder without NAT (bare.ts).
// `bare` leaves addresses as they are, so the outside gets a route to the LAN while it runs.

import { once } from 'node:events'
import { startGateway } from '../../src/lab/gateway/gateway.ts'
import type { Gateway, GatewayKind } from '../../src/lab/gateway/gateway-options.ts'
import type { Namespace } from '../../src/lab/world/namespace.ts'
import { GATEWAY_OUTSIDE, HOST_INTERFACE, INSIDE_INTERFACE, OUTSIDE_INTERFACE } from '../../src/lab/world/topology.ts'
import type { Bare } from './bare.ts'
import type { Bench } from './measures.ts'

export const CONTENDERS = ['kernel', 'natloom', 'bare'] as const satisfies readonly (GatewayKind | 'bare')[]
export type Contender = (typeof CONTENDERS)[number]

const LAN_NETWORK = '10.0.0.0/24'
const BEGINS_WITHIN_MS = 10_000
const STOPS_WITHIN_MS = 5000

export const startContender = (kind: Contender, bench: Bench, stateFile: string): Promise<Gateway> =>
  kind === 'bare'
    ? startBare(bench)
    : startGateway({ kind: kind satisfies GatewayKind, stateFile, watched: false }, bench.topology, bench.processes)

async function startBare({ topology, processes }: Bench): Promise<Gateway> {
  const { lan, gateway, outside } = topology
  const links = [
    { name: INSIDE_INTERFACE, mac: macOf(gateway, INSIDE_INTERFACE), host: macOf(lan, HOST_INTERFACE) },
    { name: OUTSIDE_INTERFACE, mac: macOf(gateway, OUTSIDE_INTERFACE), host: macOf(outside, HOST_INTERFACE) },
  ]
  const forwarder = processes.startModule(gateway, new URL('./bare.js', import.meta.url), { links } satisfies Bare)
  const failed = forwarder.ended.then(({ code, signal }) => {
    throw new Error(`the bare forwarder ended with ${code ?? signal}:\n${forwarder.output}`)
  })
  failed.catch(() => {})
  await Promise.race([once(forwarder.child, 'message', { signal: AbortSignal.timeout(BEGINS_WITHIN_MS) }), failed])
  const route = `${LAN_NETWORK} via ${GATEWAY_OUTSIDE}`
  outside.ip(`route add ${route}`)
  return {
    kind: 'kernel',
    failed,
    metrics: () => undefined,
    metricsFromNow: async () => undefined,
    async stop() {
      outside.ip(`route del ${route}`)
      forwarder.child.kill('SIGTERM')
      await forwarder.within(STOPS_WITHIN_MS)
      return []
    },
  }
}

const macOf = (host: Namespace, name: string): string =>
  (JSON.parse(host.ip(`-j link show ${name}`)) as { address: string }[])[0]?.address ?? ''

export const contenderNamed = (name: string): Contender | undefined => CONTENDERS.find((kind) => kind === name)
