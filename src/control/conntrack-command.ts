// `natloom conntrack -L`: lists the connections of a running gateway, as JSON or as Linux writes them. Authority for
// the text: net/netfilter/nf_conntrack_standalone.c, ct_seq_show() (/proc/net/nf_conntrack). Behind it stand `shard=`,
// `helper=` as conntrack(8) prints it, and `master=`, the original tuple of the connection that announced this one.
// natloom has no marks, zones and reference counts; the text has what Linux writes for them by default, so that a
// program that reads one can read the other.

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

/** `10.0.0.2:5000>192.0.2.7:21`, or `ended` for a master of which no tuple is left. */
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
  // RFC 792: the reply to an echo request is type 0, the reply to every other query is the query's type plus 1.
  const replyType = icmp.type === ECHO_REQUEST ? 0 : icmp.type + 1
  return `type=${isReply ? replyType : icmp.type} code=0 id=${isReply ? icmp.replyId : icmp.id} `
}
