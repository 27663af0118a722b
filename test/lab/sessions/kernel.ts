// Linux as the gateway of scripted sessions: nft masquerade, its helpers for FTP, IRC and TFTP, and a forward for a
// server inside. What it expects is read by conntrack(8).

import type { Forward } from '../../../src/lab/gateway/gateway-options.ts'
import { startKernel } from '../../../src/lab/gateway/kernel-gateway.ts'
import type { Namespace } from '../../../src/lab/world/namespace.ts'
import type { Expectation } from './play.ts'
import { SERVICE_PORTS } from './session.ts'

const forward = (service: 'ftp' | 'irc'): Forward => ({ protocol: 'tcp', port: SERVICE_PORTS[service], to: '10.0.0.2' })

/** Ends it. */
export async function startLinux(gateway: Namespace): Promise<() => Promise<void>> {
  const linux = await startKernel(gateway, {
    helpers: ['ftp', 'irc', 'tftp'],
    forwards: [forward('ftp'), forward('irc')],
  })
  return async () => {
    await linux.stop()
    gateway.exec('conntrack', '-F')
  }
}

/** One line each: `299 proto=6 src=... dst=... sport=0 dport=40000 mask-src=... master-src=... sport=... helper=ftp`. */
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
        // Ports are given thrice: expected, mask, master.
        masterPort: Number(one('sport', 2)),
      }
    })

/** Expectations outlive their sessions there, and one for an endpoint that is expected already is refused. */
export function forgetExpectations(gateway: Namespace): void {
  gateway.exec('conntrack', '-F', 'expect')
}
