// The host's own sockets on ports of the address that it shares with NAT, as metrics. Read at each scrape.

import { Gauge, type Registry } from 'prom-client'

/** Implemented by coordinator/leases/host-sockets.ts. */
export interface HostPortsState {
  /** Ports in NAT's range that the host has sockets on, by protocol number. Undefined if the last look failed. */
  bound(protocol: number): number | undefined
  /** Ports of NAT's that the host has sockets on, too, by protocol number. */
  contested(protocol: number): number | undefined
}

const HOST_PORTS_BOUND = {
  name: 'natloom_host_ports_bound',
  help: 'Ports in NAT’s range on which the host itself has a socket: NAT gives them to nobody',
}
export const HOST_PORTS_CONTESTED = {
  name: 'natloom_host_ports_contested',
  help: 'Ports that NAT has given out or that are forwarded and on which the host has a socket, which gets nothing',
}
type Count = (protocol: number) => number | undefined

const PROTOCOLS = [
  ['tcp', 6],
  ['udp', 17],
] as const

export function registerHostPorts(registry: Registry, ports: HostPortsState): void {
  register(HOST_PORTS_BOUND, (protocol) => ports.bound(protocol))
  register(HOST_PORTS_CONTESTED, (protocol) => ports.contested(protocol))

  function register(what: { readonly name: string; readonly help: string }, count: Count): void {
    const gauge: Gauge = new Gauge({
      ...what,
      labelNames: ['protocol'],
      registers: [registry],
      collect(): void {
        gauge.reset()
        for (const [protocol, number] of PROTOCOLS) {
          const ports = count(number)
          if (ports !== undefined) gauge.set({ protocol }, ports)
        }
      },
    })
  }
}
