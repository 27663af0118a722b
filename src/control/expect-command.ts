// `natloom expect -L`: what a running gateway expects, as JSON or as Linux writes it.
// Authority for the text: net/netfilter/nf_conntrack_expect.c, exp_seq_show() (/proc/net/nf_conntrack_expect), with what
// Linux has no word for behind it: where the connection was announced and by whom, as announced, and whose shard it will
// come to.

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

/** Linux writes an address, and no mask. */
const withoutPrefix = (source: string): string => source.split('/')[0]!
