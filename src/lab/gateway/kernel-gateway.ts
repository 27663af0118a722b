// The kernel as the lab's gateway, to compare with: nft masquerade, helpers (ct helper, nft(8)) and port forwards where
// they are asked for. stop() removes all of it.

import { setForwarding } from '../world/inside-frames.ts'
import { type Namespace, run } from '../world/namespace.ts'
import { OUTSIDE_INTERFACE } from '../world/topology.ts'
import { type Gateway, type GatewayOptions, HELPERS } from './gateway-options.ts'

const TABLE = 'natloom_lab'

function rules({ helpers = [], portForwards = [] }: Pick<GatewayOptions, 'helpers' | 'portForwards'>): string {
  const objects = helpers.map((name) => `ct helper ${name} { type "${name}" protocol ${HELPERS[name].protocol}; }`)
  const binds = helpers.map((name) => `${HELPERS[name].protocol} dport ${HELPERS[name].port} ct helper set "${name}"`)
  const redirects = portForwards.map(
    ({ protocol, port, to }) => `iifname ${OUTSIDE_INTERFACE} ${protocol} dport ${port} dnat to ${to}`,
  )
  return [
    `table ip ${TABLE} {`,
    ...objects,
    'chain helped { type filter hook prerouting priority filter;',
    ...binds,
    '}',
    'chain forwarded { type nat hook prerouting priority dstnat;',
    ...redirects,
    '}',
    'chain masqueraded { type nat hook postrouting priority srcnat;',
    `oifname ${OUTSIDE_INTERFACE} masquerade`,
    '}',
    '}',
  ].join('\n')
}

export async function startKernel(
  host: Namespace,
  options: Pick<GatewayOptions, 'helpers' | 'portForwards'> = {},
): Promise<Gateway> {
  run('ip', ['netns', 'exec', host.name, 'nft', '-f', '-'], rules(options))
  setForwarding(host, true)
  return {
    kind: 'kernel',
    async stop() {
      setForwarding(host, false)
      host.exec('nft', 'delete', 'table', 'ip', TABLE)
      return []
    },
    metrics: () => undefined,
    metricsFromNow: async () => undefined,
    failed: new Promise(() => {}),
  }
}
