// `natloom expect -L`: lists the expectations of a running gateway, as JSON or as Linux writes them. Authority for the
// text: net/netfilter/nf_conntrack_expect.c, exp_seq_show() (/proc/net/nf_conntrack_expect). Behind it stand what Linux
// doesn't have: the master connection and its shard, the endpoint as announced, and the shard that will own the
// expected connection.

import type { Writable } from 'node:stream'
import { answerOf, type Expectation, expectations } from './api-client.ts'
import { flowText, type Output, write } from './conntrack-command.ts'

const AF_INET = 2

/** Writes every expectation. Throws ApiClientError. */
export async function listExpectations(socket: string, output: Output, to: Writable): Promise<void> {
  if (output === 'json') for await (const line of answerOf(socket, '/expectations')) await write(to, line)
  else for await (const expectation of expectations(socket)) await write(to, expectationText(expectation))
}

/** A line of /proc/net/nf_conntrack_expect. */
export function expectationText(expectation: Expectation): string {
  const { timeout, protocol, source, sourcePort, destination, destinationPort, announced, owner, master } = expectation
  const flags = [expectation.permanent && 'PERMANENT', expectation.inactive && 'INACTIVE'].filter(Boolean).join(',')
  return [
    `${timeout} l3proto = ${AF_INET} proto=${protocol}`,
    `src=${withoutPrefix(source)} dst=${destination} sport=${sourcePort} dport=${destinationPort}`,
    ...(flags === '' ? [] : [flags]),
    expectation.class === undefined ? expectation.helper : `${expectation.helper}/${expectation.class}`,
    `master=${flowText(master.original)} shard=${master.shard} announced=${announced.address}:${announced.port}`,
    ...(owner === null ? [] : [`owner=${owner}`]),
    ...(expectation.childHelper === undefined ? [] : [`helper=${expectation.childHelper}`]),
  ].join(' ')
}

/** Linux writes the address without the mask. */
const withoutPrefix = (source: string): string => source.split('/')[0]!
