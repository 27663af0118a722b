// The kernel's connection table by ctnetlink, listed whole in one dump: exact at the moment of the call, some
// milliseconds for a thousand entries. Authority: linux/netfilter/nfnetlink_conntrack.h.

import { TCP_STATES } from '../../src/conntrack/tcp-state.ts'
import { attributes, type Message } from '../../src/host/netlink.ts'
import { NETLINK_NETFILTER, NetlinkSocket } from '../../src/host/netlink-socket.ts'

const CTNETLINK = 1 << 8
const GET = CTNETLINK | 1
const DELETE = CTNETLINK | 2
const AF_INET = 2
/** struct nfgenmsg: family, version, resource. */
const FIXED = Uint8Array.of(AF_INET, 0, 0, 0)
const FIXED_BYTES = 4

const CTA = { original: 1, status: 3, protoinfo: 4, countersOriginal: 9, countersReply: 10, id: 12 }
const TUPLE = { ip: 1, proto: 2, source: 1, number: 1, sourcePort: 2, destinationPort: 3 }
const PROTOINFO = { tcp: 1, state: 1 }
const COUNTERS = { packets: 1 }
const SEEN_REPLY = 2
const ASSURED = 4
const DYING = 0x200
const TCP = 6

export interface Entry {
  /** The kernel's own number for it: another entry for the same tuple has another one. */
  readonly id: number
  /** Of the original direction. */
  readonly sourceAddress: number
  readonly sourcePort: number
  readonly destinationPort: number
  readonly state: (typeof TCP_STATES)[number]
  readonly seenReply: boolean
  readonly assured: boolean
  /** Packets by direction. */
  readonly packets: readonly [number, number]
}

export class ConntrackDump {
  readonly #socket: NetlinkSocket

  /** Of the network namespace that this thread is in. */
  constructor() {
    this.#socket = new NetlinkSocket(NETLINK_NETFILTER)
  }

  /** All TCP entries. */
  list(): Entry[] {
    return this.#socket.dump({ what: 'list connections', type: GET, fixed: FIXED }, entryOf)
  }

  flush(): void {
    this.#socket.request({ what: 'forget connections', type: DELETE, fixed: FIXED })
  }

  close(): void {
    this.#socket.close()
  }
}

function entryOf({ body }: Message): Entry | undefined {
  const all = attributes(body, FIXED_BYTES)
  const within = (from: Map<number, DataView>, type: number) =>
    attributes(from.get(type) ?? new DataView(new ArrayBuffer(0)), 0)
  const tuple = within(all, CTA.original)
  const proto = within(tuple, TUPLE.proto)
  const status = all.get(CTA.status)?.getUint32(0) ?? 0
  if (proto.get(TUPLE.number)?.getUint8(0) !== TCP || (status & DYING) !== 0) return undefined
  const state = within(within(all, CTA.protoinfo), PROTOINFO.tcp).get(PROTOINFO.state)?.getUint8(0) ?? 0
  const packets = (counters: number): number => {
    const count = within(all, counters).get(COUNTERS.packets)
    if (!count) throw new Error('the kernel counts no packets: net.netfilter.nf_conntrack_acct is 0')
    return Number(count.getBigUint64(0))
  }
  return {
    id: all.get(CTA.id)!.getUint32(0),
    sourceAddress: within(tuple, TUPLE.ip).get(TUPLE.source)!.getInt32(0, true),
    sourcePort: proto.get(TUPLE.sourcePort)!.getUint16(0),
    destinationPort: proto.get(TUPLE.destinationPort)!.getUint16(0),
    state: TCP_STATES[state]!,
    seenReply: (status & SEEN_REPLY) !== 0,
    assured: (status & ASSURED) !== 0,
    packets: [packets(CTA.countersOriginal), packets(CTA.countersReply)],
  }
}
