// The packet embedded in an ICMP error (RFC 792, RFC 5508 section 4): where it lies and what its tuple is. A shard
// reads it to find its connection, a dispatcher to find its owner. Owner: this thread; the variables are those of the
// packet that was read last.

import { invertPorts } from '../../conntrack/terms.ts'
import type { Ports, ProtocolNumber } from '../../wire/address.ts'
import * as icmp from '../../wire/icmp.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as portless from '../../wire/portless.ts'
import * as tcp from '../../wire/tcp.ts'
import { bothPorts } from '../handover/packet-owner.ts'
import { type At, END, L4 } from '../packet/burst.ts'
import { mem } from '../packet/packet-memory.ts'

/** RFC 792: an error embeds the IP header and at least 64 bits more. */
const LEAST_TRANSPORT = 8

/** Where the embedded packet's IPv4 header and its transport header begin. */
export let embedded: At = 0
export let embeddedTransport: At = 0
export let protocol: ProtocolNumber = 0
/** The embedded packet's ports word, as conntrack/terms.ts has it. */
export let embeddedPorts: Ports = 0
/** The ports word of a reply to it, as the ownership rule takes it: inverted; of ICMP the identifier twice. */
export let replyPorts: Ports = 0

/** Reads the packet embedded in packet i; false if it is too short or malformed. */
export function readEmbedded(i: number): boolean {
  embedded = L4[i]! + icmp.EMBEDDED
  const end = END[i]!
  if (end - embedded < ipv4.MIN_HEADER_LEN || ipv4.version(mem, embedded) !== 4) return false
  const headerLength = ipv4.headerLen(mem, embedded)
  embeddedTransport = embedded + headerLength
  if (headerLength < ipv4.MIN_HEADER_LEN || embeddedTransport > end) return false
  // A later fragment shows no ports.
  if ((ipv4.fragmentWord(mem, embedded) & ipv4.OFFSET_MASK) !== 0) return false
  protocol = ipv4.protocol(mem, embedded)
  if (isReadBeyond(protocol) && end - embeddedTransport < LEAST_TRANSPORT) return false
  if (protocol === ipv4.PROTO_ICMP) return readEmbeddedIcmp()
  embeddedPorts = protocol === ipv4.PROTO_TCP || protocol === ipv4.PROTO_UDP ? tcp.ports(mem, embeddedTransport) : 0
  replyPorts = invertPorts(embeddedPorts)
  return true
}

/** Of other protocols nothing behind the IPv4 header is read or changed; their packets may be shorter, as GRE's are. */
const isReadBeyond = (protocol: ProtocolNumber): boolean =>
  protocol === ipv4.PROTO_TCP ||
  protocol === ipv4.PROTO_UDP ||
  protocol === ipv4.PROTO_ICMP ||
  portless.hasPseudoHeader(protocol)

function readEmbeddedIcmp(): boolean {
  const type = icmp.type(mem, embeddedTransport)
  const id = icmp.id(mem, embeddedTransport)
  if (icmp.isQuery(type)) embeddedPorts = id | (type << 16)
  else if (icmp.isReply(type)) embeddedPorts = icmp.queryOf(type) | (id << 16)
  else return false
  replyPorts = bothPorts(id)
  return true
}
