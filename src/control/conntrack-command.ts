// `natloom conntrack -L`: the connections of a running gateway, as JSON or as Linux writes them.
// Authority for the text: net/netfilter/nf_conntrack_standalone.c, ct_seq_show() (/proc/net/nf_conntrack), with `shard=`
// behind it, `helper=` as conntrack(8) has it, and `master=`: the original tuple of the connection that announced it. natloom has no marks, zones and reference counts; what Linux would write for them in an ordinary
// case stands there, so that whoever reads the one can read the other.

import { once } from 'node:events'
import type { Writable } from 'node:stream'
import { answerOf, type Connection, connections } from './api-client.ts'

export const OUTPUTS = ['text', 'json'] as const
export type Output = (typeof OUTPUTS)[number]

const NAMES: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 47: 'gre', 132: 'sctp' }
const AF_INET = 2

/** Writes every connection. Throws ApiClientError. */
export async function listConnections(socket: string, output: Output, to: Writable): Promise<void> {
  if (output === 'json') for await (const line of answerOf(socket, '/connections')) await write(to, line)
  else for await (const connection of connections(socket)) await write(to, textOf(connection))
}

/** `10.0.0.2:5000>192.0.2.7:21`; of one that has ended since, nothing is left to be named. */
export const flowText = (tuple: NonNullable<Connection['master']>['original']): string =>
  tuple === null ? 'ended' : `${tuple.source}:${tuple.sourcePort}>${tuple.destination}:${tuple.destinationPort}`

export async function write(to: Writable, line: string): Promise<void> {
  if (!to.write(`${line}\n`)) await once(to, 'drain')
}

/** A line of /proc/net/nf_conntrack. */
export function textOf(connection: Connection): string {
  const { protocol, state, timeout, seenReply, assured, shard, helper, master, original, reply } = connection
  return [
    `${'ipv4'.padEnd(8)} ${AF_INET} ${(NAMES[protocol] ?? 'unknown').padEnd(8)} ${protocol} ${timeout}`,
    ...(state === undefined ? [] : [state]),
    directionOf(original, icmpOf(connection, false)),
    ...(seenReply ? [] : ['[UNREPLIED]']),
    directionOf(reply, icmpOf(connection, true)),
    ...(assured ? ['[ASSURED]'] : []),
    `mark=0 zone=0 use=2 shard=${shard}`,
    ...(helper === undefined ? [] : [`helper=${helper}`]),
    ...(master === undefined ? [] : [`master=${flowText(master.original)}`]),
  ].join(' ')
}

function directionOf({ source, destination, sourcePort, destinationPort, packets, bytes }: Direction, icmp: string) {
  const ports = sourcePort === undefined ? icmp : `sport=${sourcePort} dport=${destinationPort} `
  return `src=${source} dst=${destination} ${ports}packets=${packets} bytes=${bytes}`
}

type Direction = Connection['original']

const ECHO_REQUEST = 8

function icmpOf({ icmp }: Connection, isReply: boolean): string {
  if (!icmp) return ''
  // An echo is answered by type 0, every other query by the type after its own.
  const answer = icmp.type === ECHO_REQUEST ? 0 : icmp.type + 1
  return `type=${isReply ? answer : icmp.type} code=0 id=${isReply ? icmp.replyId : icmp.id} `
}
