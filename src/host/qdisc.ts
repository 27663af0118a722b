// Tells on which interfaces an administrator has configured a queueing discipline. Authority: tc(8), rtnetlink(7),
// linux/rtnetlink.h.
//
// A packet socket can bypass the queueing discipline (PACKET_QDISC_BYPASS), which silently ends shaping and egress
// filters; so it does only where none is configured. A discipline that the kernel attached by itself, whichever
// net.core.default_qdisc names, has the handle 0; a configured one has a handle of its own.

import { attributes, type Message, textOf } from './netlink.ts'
import { NETLINK_ROUTE, NetlinkSocket } from './netlink-socket.ts'

const RTM_GETQDISC = 38
const TC_H_INGRESS = 0xfffffff1 // the parent of `ingress` and of `clsact`

/** Interface index -> the kind of a queueing discipline configured there (`tbf`, `htb` ...). Throws NetlinkError. */
export function configuredQdiscs(): Map<number, string> {
  const socket = new NetlinkSocket(NETLINK_ROUTE)
  try {
    const request = { what: 'listing queueing disciplines', type: RTM_GETQDISC, fixed: new Uint8Array(20) }
    return new Map(socket.dump(request, configured))
  } finally {
    socket.close()
  }
}

/** struct tcmsg: family u8 and padding, interface index i32 @4, handle u32 @8, parent u32 @12. */
function configured({ body }: Message): [number, string] | undefined {
  const handle = body.getUint32(8, true)
  const parent = body.getUint32(12, true)
  const name = attributes(body, 20).get(1) // TCA_KIND
  const kind = name ? textOf(name) : ''
  if (handle === 0 || (parent === TC_H_INGRESS && kind === 'ingress')) return undefined
  return [body.getInt32(4, true), kind]
}
