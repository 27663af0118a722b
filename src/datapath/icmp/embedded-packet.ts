// The packet that an ICMP error quotes (RFC 792, RFC 5508 section 4): where it lies and what its tuple is. Read before
// anyone decides about it: the shard that looks for its connection, the dispatcher that looks for its owner.
// Owner: this thread; what was read last.

import { invertPorts } from '../../conntrack/terms.ts'
import * as icmp from '../../wire/icmp.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as tcp from '../../wire/tcp.ts'
import { bothPorts } from '../handover/packet-owner.ts'
import { END, L4 } from '../packet/burst.ts'
import { mem } from '../packet/packet-memory.ts'

/** RFC 792: an error quotes the IP header and at least 64 bits more. */
const QUOTED_TRANSPORT = 8

// Module-level for want of a way to return five numbers without an object.
/** Where its IPv4 and its transport header begin. */
export let embedded = 0
export let embeddedTransport = 0
export let protocol = 0
/** Its ports word, as conntrack/terms.ts has it. */
export let embeddedPorts = 0
/** What the ownership rule asks of its answer: that word turned round; of ICMP the identifier twice. */
export let answerPorts = 0

/** False if the quote is too short or malformed to tell. */
export function readEmbedded(i: number): boolean {
  embedded = L4[i]! + icmp.EMBEDDED
  const end = END[i]!
  if (end - embedded < ipv4.MIN_HEADER_LEN || ipv4.version(mem, embedded) !== 4) return false
  const headerLength = ipv4.headerLen(mem, embedded)
  embeddedTransport = embedded + headerLength
  if (headerLength < ipv4.MIN_HEADER_LEN || end - embeddedTransport < QUOTED_TRANSPORT) return false
  // Of a later fragment only the addresses are known.
  if ((ipv4.fragmentWord(mem, embedded) & ipv4.OFFSET_MASK) !== 0) return false
  protocol = ipv4.protocol(mem, embedded)
  if (protocol === ipv4.PROTO_ICMP) return readEmbeddedIcmp()
  embeddedPorts = protocol === ipv4.PROTO_TCP || protocol === ipv4.PROTO_UDP ? tcp.ports(mem, embeddedTransport) : 0
  answerPorts = invertPorts(embeddedPorts)
  return true
}

function readEmbeddedIcmp(): boolean {
  const type = icmp.type(mem, embeddedTransport)
  const id = icmp.id(mem, embeddedTransport)
  if (icmp.isQuery(type)) embeddedPorts = id | (type << 16)
  else if (icmp.isReply(type)) embeddedPorts = icmp.queryOf(type) | (id << 16)
  else return false
  answerPorts = bothPorts(id)
  return true
}
