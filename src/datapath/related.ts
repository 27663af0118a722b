// The first packet of a connection that was expected (nf_ct_find_expectation): it goes before every rule of NAT, is
// RELATED, and is translated as its master was (nf_nat_follow_master). Owner: this thread.

import { field } from '../conntrack/expectation-slots.shard.ts'
import { destinationPort, protocolIn, sourcePort } from '../conntrack/terms.ts'
import { type Child, Expected, type Master } from '../helpers/helper.ts'
import { ENTRY } from '../helpers/helper-list.ts'
import { helperById } from '../helpers/registry.shard.ts'
import { enterHelper, leaveHelper } from '../helpers/running-helper.shard.ts'
import type { Handle, Row } from '../memory/brand.ts'
import { openExpected } from '../nat/expected.shard.ts'
import { formatAddress, ntohs, type ProtocolNumber } from '../wire/address.ts'
import { PROTO_TCP } from '../wire/ipv4.ts'
import { countCutOff, makeNamed } from './helped/helped-connections.ts'
import { blame } from './helped/helper-errors.ts'
import { DST, KEY, PORTS, SRC } from './packet/burst.ts'

/** Makes the connection of packet i, which the claimed expectation lets in: its row; 0 if none (nat/refusal.ts). */
export function openRelated(handle: Handle, i: number): Row {
  const helper = field(handle, 'childHelper')
  return makeNamed(helper, () => openExpected(handle, KEY[i]!, SRC[i]!, DST[i]!, PORTS[i]!))
}

/**
 * What the helper that has expected packet i's connection says of it. If it throws, that is counted and reported, and
 * the connection is translated as its master was: the default.
 */
export function askHelper(handle: Handle, i: number): Expected {
  const registered = helperById(field(handle, 'helper'))
  if (registered?.helper.expected === undefined) return Expected.Follow
  const child = childOf(handle, i)
  const master = masterOf(handle)
  enterHelper(registered.id, ENTRY.expected)
  try {
    return registered.helper.expected(child, master)
  } catch (error) {
    blame(registered, 'expected()', error)
    countCutOff('threw')
    return Expected.Follow
  } finally {
    leaveHelper()
  }
}

const protocolName = (protocol: ProtocolNumber): 'tcp' | 'udp' => (protocol === PROTO_TCP ? 'tcp' : 'udp')

function childOf(handle: Handle, i: number): Child {
  return {
    tuple: {
      protocol: protocolName(protocolIn(KEY[i]!)),
      src: { address: formatAddress(SRC[i]!), port: sourcePort(PORTS[i]!) },
      dst: { address: formatAddress(DST[i]!), port: destinationPort(PORTS[i]!) },
    },
    announced: {
      address: formatAddress(field(handle, 'savedAddress')),
      port: ntohs(field(handle, 'savedPort')),
    },
    class: field(handle, 'class'),
  }
}

function masterOf(handle: Handle): Master {
  const ports = field(handle, 'masterPorts')
  return {
    tuple: {
      protocol: protocolName(protocolIn(field(handle, 'masterKey'))),
      src: { address: formatAddress(field(handle, 'masterSrc')), port: sourcePort(ports) },
      dst: { address: formatAddress(field(handle, 'masterDst')), port: destinationPort(ports) },
    },
  }
}
