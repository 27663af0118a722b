// Runs in the outside host: discards the flood and says, when asked, how many packets its interface has received. The
// interface's own counter is read, because a program that reads the socket would take the processor from the gateway.

import { readFileSync } from 'node:fs'
import { boundUdpSocket } from './sockets.ts'

export interface Services {
  readonly floodPort: number
  readonly interface: string
}

export interface Count {
  readonly packets: number
  readonly atMs: number
}

const { floodPort, interface: name } = JSON.parse(process.argv[2] ?? '{}') as Services

// Bound and never read: the kernel drops what doesn't fit, and sends no ICMP error for a closed port.
boundUdpSocket(floodPort, 1)

process.on('message', () => {
  const packets = Number(readFileSync(`/sys/class/net/${name}/statistics/rx_packets`, 'utf8'))
  process.send?.({ packets, atMs: performance.now() } satisfies Count)
})
process.on('disconnect', () => process.exit(0))
process.send?.('ready')
