// Why a packet was dropped: the one list that makes the counter, the metric's label, the log text and the dashboard's
// legend. A reason's number is its place in this list: append, never reorder (shards of a running gateway share it).
// Authority for the checks behind them: RFC 1812 (router requirements), RFC 791, 768, 793/9293, 792, 5508.

import type { Brand } from '../memory/brand.ts'

export const DROP_REASONS = [
  // --- what is wrong with the packet itself (datapath/packet/parse.ts) ---
  ['frame-short', 'the frame ends before its Ethernet header does'],
  ['ip-short', 'the frame ends before the IPv4 header does'],
  ['ip-version', 'the version field of an IPv4 frame is not 4'],
  ['ip-header-length', 'the IPv4 header length is below 20 bytes or beyond the packet'],
  ['ip-total-length', 'the IPv4 total length is below the header or beyond the frame'],
  ['ip-checksum', 'the IPv4 header checksum is wrong'],
  ['ip-options', 'the IPv4 options are malformed, or ask for source routing'],
  ['ip-source', 'the source address can never be a sender (zero, loopback, multicast, broadcast)'],
  ['tcp-short', 'the packet ends before the TCP header does'],
  ['tcp-data-offset', 'the TCP data offset is below 20 bytes or beyond the packet'],
  ['tcp-options', 'the TCP options are malformed'],
  ['tcp-flags', 'a combination of TCP flags that no segment has'],
  ['tcp-checksum', 'the TCP checksum of a packet that opens or closes a connection is wrong'],
  ['udp-short', 'the packet ends before the UDP header does'],
  ['udp-length', 'the UDP length is below 8 or beyond the packet'],
  ['udp-checksum', 'the UDP checksum of a packet that opens a flow is wrong'],
  ['port-zero', 'a TCP or UDP port is 0'],
  ['icmp-short', 'the packet ends before the ICMP header does'],
  ['icmp-checksum', 'the ICMP checksum is wrong'],
  ['icmp-type', 'an ICMP message that is neither a query, its answer, nor an error'],
  ['icmp-embedded', 'the packet quoted in an ICMP error is short or malformed'],
  ['fragment-overlap', 'a fragment overlaps or contradicts others of its datagram, or a TCP header (RFC 3128, 5722)'],
  ['fragment-tiny', 'the first fragment does not hold the whole transport header'],
  ['fragment-length', 'a fragment but the last is no multiple of 8 bytes, or its datagram is longer than 65535'],
  ['fragment-orphan', 'a later fragment whose first fragment was dropped, or has not come in time'],
  ['fragment-table-full', 'too many fragmented packets are under way, or too many fragments wait for a first one'],
  // --- tracking ---
  ['tcp-no-connection', 'a TCP segment that opens nothing and belongs to no connection'],
  ['tcp-state', 'a TCP segment that is invalid in the state of its connection'],
  ['icmp-no-query', 'an ICMP answer to a query that was not asked'],
  ['icmp-error-unrelated', 'an ICMP error about a packet that belongs to no connection'],
  ['table-full', 'the connection table, or what outsiders may have of it, is full and nothing in it may be recycled'],
  // --- translation and filtering ---
  ['no-mapping', 'from outside, to a port or address of the NAT that is mapped to nobody'],
  ['filtered', 'from outside, to a mapping whose inside end has not talked to the sender'],
  ['no-port', 'no external port is free for this inside endpoint'],
  ['port-lease-pending', 'the shard waits for a port block of its own'],
  ['no-free-tuple', 'another connection has the same addresses and ports on one side already'],
  ['protocol-not-translated', 'a protocol without ports that nat.protocols does not list'],
  ['no-external-address', 'the outside interface has no address to translate to'],
  // --- routing and sending ---
  ['ttl-expired', 'the time to live ran out here'],
  ['no-route', 'the host has no route to the destination'],
  ['martian-source', 'the routes do not return the source by the interface it came by'],
  ['too-big', 'larger than the next link takes, and not to be fragmented'],
  ['neighbour-unreachable', 'the next hop does not answer ARP'],
  ['neighbour-queue-full', 'too many packets wait for the next hop to answer ARP'],
  ['link-down', 'the interface that the route names is down'],
  ['out-of-scratch', 'no memory left in this burst to build or to keep a packet'],
  // --- between shards ---
  ['handover-loop', 'handed from shard to shard more than three times'],
  ['handover-full', "the next shard's ring is full"],
  // --- helpers ---
  ['helper-verdict', 'a helper said so'],
  ['helper-window', 'a segment of a helped connection lies beyond what its stream takes'],
  ['helper-fragment', 'a fragment of a TCP connection that a helper has changed, or was to read'],
  ['edit-lost', "a segment of a rewritten line whose text was lost with the shard's thread"],
  // --- the operator's filter ---
  ['filter-denied', "the first packet of a flow that the configuration's filter denies"],
  // --- helpers, once more ---
  ['helper-failed', 'an announcement that its helper could not rewrite, or what came behind it (onHelperFailure)'],
  // --- tracking, once more: what TCP's numbers say (conntrack/tcp-window.shard.ts) ---
  ['tcp-seq-over', 'a TCP segment beyond the window that its receiver has offered'],
  ['tcp-ack-over', 'a TCP segment that acknowledges what was never sent'],
  ['tcp-reset', 'a TCP reset below what its receiver has acknowledged already'],
  // --- fragments, once more ---
  ['fragment-duplicate', 'a fragment of which every byte had come already'],
  // --- ICMP errors, once more: what they embed (datapath/icmp/icmp-error.ts) ---
  ['icmp-embedded-checksum', 'the IPv4 header quoted in an ICMP error has a wrong checksum'],
  ['icmp-embedded-sequence', 'an ICMP error about a TCP segment that its sender cannot have under way'],
  // --- the packet itself, once more ---
  ['transport-short', 'the packet ends before the UDP-Lite or DCCP header does'],
  // --- quotas ---
  ['host-limit', 'the first packet of a flow whose inside host has as much as its `limits` allow'],
  // --- overload ---
  ['overload', 'more came than the shard can carry, and its sender had had its share (datapath/overload)'],
] as const satisfies readonly (readonly [string, string])[]

export type DropReasonName = (typeof DROP_REASONS)[number][0]

/** A reason's number. It is a verdict too (conntrack/terms.ts). */
export type DropReason = Brand<'DropReason'>

/** Reason to number; the data plane imports single numbers from here as module constants. */
export const DROP = Object.fromEntries(DROP_REASONS.map(([name], number) => [name, number])) as Record<
  DropReasonName,
  DropReason
>
