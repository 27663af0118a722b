// The first packet of a connection that was expected (nf_ct_find_expectation): it goes before every rule of NAT, is
// RELATED, and is translated as its master was (nf_nat_follow_master). Owner: this thread.

import { putBack } from '../conntrack/expectation-matching.shard.ts'
import { field } from '../conntrack/expectation-slots.shard.ts'
import { EXPECTATION } from '../conntrack/expectation-table.ts'
import { DROP } from '../counters/drop-reasons.ts'
import { type Child, Expected, type Master } from '../helpers/helper.ts'
import { helperById } from '../helpers/registry.shard.ts'
import type { Handle } from '../memory/brand.ts'
import { claimFor, openExpected } from '../nat/expected.shard.ts'
import { formatAddress, type ProtocolNumber, swap16 } from '../wire/address.ts'
import { beginHelp } from './helped/helped-connections.ts'
import { DST, KEY, PORTS, SRC, side } from './packet/burst.ts'

const HELPER_VERDICT = DROP['helper-verdict']

/** The row of packet i's connection, if one was expected; 0 if none was; the complement of a drop reason. */
export function admitRelated(i: number, tcpState: number): number {
  const protocol = KEY[i]! & 0xff
  const handle = claimFor(protocol, side, SRC[i]!, DST[i]!, PORTS[i]!)
  if (handle === 0) return 0
  const answer = ask(handle, i)
  if (answer !== Expected.Follow) {
    putBack(handle)
    return answer === Expected.Drop ? ~HELPER_VERDICT : 0
  }
  const helper = field(handle, EXPECTATION.childHelper)
  const row = openExpected(handle, protocol, side, SRC[i]!, DST[i]!, PORTS[i]!, tcpState)
  if (row > 0) beginHelp(row, helper)
  return row
}

/** What the helper that expected it says of it. One that throws has nothing to say. */
function ask(handle: Handle, i: number): Expected {
  const expected = helperById(field(handle, EXPECTATION.helper))?.helper.expected
  if (expected === undefined) return Expected.Follow
  try {
    return expected(childOf(handle, i), masterOf(handle))
  } catch {
    return Expected.Follow
  }
}

const protocolName = (protocol: ProtocolNumber): 'tcp' | 'udp' => (protocol === 6 ? 'tcp' : 'udp')

function childOf(handle: Handle, i: number): Child {
  return {
    tuple: {
      protocol: protocolName(KEY[i]! & 0xff),
      src: { address: formatAddress(SRC[i]!), port: swap16(PORTS[i]! & 0xffff) },
      dst: { address: formatAddress(DST[i]!), port: swap16(PORTS[i]! >>> 16) },
    },
    announced: {
      address: formatAddress(field(handle, EXPECTATION.savedAddress)),
      port: swap16(field(handle, EXPECTATION.savedPort)),
    },
    class: field(handle, EXPECTATION.class),
  }
}

function masterOf(handle: Handle): Master {
  const ports = field(handle, EXPECTATION.masterPorts)
  return {
    tuple: {
      protocol: protocolName(field(handle, EXPECTATION.masterKey) & 0xff),
      src: { address: formatAddress(field(handle, EXPECTATION.masterSrc)), port: swap16(ports & 0xffff) },
      dst: { address: formatAddress(field(handle, EXPECTATION.masterDst)), port: swap16(ports >>> 16) },
    },
    ended: false,
  }
}
