// `natloom drops`: which packets were dropped, by interface and reason, and whose they were lately, as text or as JSON:
// what has dropped most first. Each source has a line of its own, behind its interface and reason.

import type { Writable } from 'node:stream'
import { answerOf, type Drops, drops } from './api-client.ts'
import { type Output, write } from './conntrack-command.ts'
import { protocolName } from './protocols.ts'

/** Writes every interface and reason. Throws ApiClientError. */
export async function listDrops(socket: string, output: Output, to: Writable): Promise<void> {
  if (output === 'json') for await (const line of answerOf(socket, '/drops')) await write(to, line)
  else for await (const each of drops(socket)) for (const line of dropsText(each)) await write(to, line)
}

/**
 * `wan0 outside filtered packets=1200`, then for each source
 * `wan0 outside filtered src=192.0.2.7 recent=300 ago=2 last=udp dst=203.0.113.1 sport=53 dport=20000`.
 */
export function dropsText({ interface: name, side, reason, packets, sources }: Drops): string[] {
  const where = `${name} ${side} ${reason}`
  return [
    `${where} packets=${packets}`,
    ...sources.map(({ source, recent, last }) => {
      const { secondsAgo, protocol, destination, sourcePort, destinationPort } = last
      const ports = sourcePort === null ? '' : ` sport=${sourcePort} dport=${destinationPort}`
      const packet = `last=${protocolName(protocol)} dst=${destination}${ports}`
      return `${where} src=${source} recent=${recent} ago=${secondsAgo} ${packet}`
    }),
  ]
}
