// Linux as the gateway of scripted sessions: nft masquerade, its helpers for FTP, IRC and TFTP, and a forward for a
// server inside. What it expects is read by conntrack(8).

import type { Namespace } from '../../../src/lab/namespace.ts'
import { run } from '../../../src/lab/namespace.ts'
import { OUTSIDE_INTERFACE } from '../../../src/lab/topology.ts'
import type { Expectation } from './play.ts'
import { SERVICE_PORTS } from './session.ts'

const RULES = `table ip sessions {
  ct helper ftp { type "ftp" protocol tcp; }
  ct helper irc { type "irc" protocol tcp; }
  ct helper tftp { type "tftp" protocol udp; }
  chain helpers {
    type filter hook prerouting priority filter;
    tcp dport ${SERVICE_PORTS.ftp} ct helper set "ftp"
    tcp dport ${SERVICE_PORTS.irc} ct helper set "irc"
    udp dport ${SERVICE_PORTS.tftp} ct helper set "tftp"
  }
  chain forwards {
    type nat hook prerouting priority dstnat;
    iifname ${OUTSIDE_INTERFACE} tcp dport { ${SERVICE_PORTS.ftp}, ${SERVICE_PORTS.irc} } dnat to 10.0.0.2
  }
  chain masquerades {
    type nat hook postrouting priority srcnat;
    oifname ${OUTSIDE_INTERFACE} masquerade
  }
}
`

export function startLinux(gateway: Namespace): void {
  run('ip', ['netns', 'exec', gateway.name, 'nft', '-f', '-'], RULES)
  gateway.exec('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward')
}

export function stopLinux(gateway: Namespace): void {
  gateway.exec('nft', 'delete', 'table', 'ip', 'sessions')
  gateway.exec('sh', '-c', 'echo 0 > /proc/sys/net/ipv4/ip_forward')
  gateway.exec('conntrack', '-F')
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
