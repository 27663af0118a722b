// Linux as the gateway of scripted sessions: nft masquerade, its helpers for FTP, IRC and TFTP, and port forwards to a
// server inside. Its expectations are read by conntrack(8).

import type { PortForward } from '../../../src/lab/gateway/gateway-options.ts'
import { startKernel } from '../../../src/lab/gateway/kernel-gateway.ts'
import type { Namespace } from '../../../src/lab/world/namespace.ts'
import type { Expectation } from './play.ts'
import { SERVICE_PORTS } from './session.ts'

const portForward = (service: 'ftp' | 'irc'): PortForward => ({
  protocol: 'tcp',
  port: SERVICE_PORTS[service],
  to: '10.0.0.2',
})

/** Starts it; returns the function that ends it. */
export async function startLinux(gateway: Namespace): Promise<() => Promise<void>> {
  const linux = await startKernel(gateway, {
    helpers: ['ftp', 'irc', 'tftp'],
    portForwards: [portForward('ftp'), portForward('irc')],
  })
  return async () => {
    await linux.stop()
    gateway.exec('conntrack', '-F')
  }
}

/**
 * One line each: `299 proto=6 src=... dst=... sport=0 dport=40000 mask-src=... master-src=... sport=... helper=ftp`.
 */
export const linuxExpectations = (gateway: Namespace): Expectation[] =>
  gateway
    .exec('conntrack', '-L', 'expect')
    .split('\n')
    .filter((line) => line.includes('proto='))
    .map((line) => {
      const values = new Map<string, string[]>()
      for (const [, key, value] of line.matchAll(/([\w-]+)=(\S+)/g))
        values.set(key!, [...(values.get(key!) ?? []), value!])
      const one = (key: string, at = 0): string => values.get(key)?.[at] ?? ''
      return {
        protocol: one('proto') === '17' ? 'udp' : 'tcp',
        src: one('mask-src') === '0.0.0.0' ? '*' : one('src'),
        dst: one('dst'),
        dport: Number(one('dport')),
        // A line has three source ports: those of the expectation, its mask, and its master.
        masterPort: Number(one('sport', 2)),
      }
    })

/** In Linux expectations outlive their sessions, and a second one for the same endpoint is refused. */
export function forgetExpectations(gateway: Namespace): void {
  gateway.exec('conntrack', '-F', 'expect')
}
