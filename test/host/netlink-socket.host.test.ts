import { expect, it } from 'vitest'
import { NETLINK_ROUTE, NetlinkError, NetlinkSocket } from '../../src/host/netlink-socket.ts'
import { useNeighbour } from '../../src/host/rtnetlink.ts'
import { addr } from './inside.ts'

it('requests that the kernel refuses are errors with a code and what was attempted', () => {
  const socket = new NetlinkSocket(NETLINK_ROUTE)
  try {
    const attempt = () => useNeighbour(socket, 0x7fffffff, addr('10.0.0.1'), true)
    expect(attempt).toThrow(NetlinkError)
    expect(attempt).toThrow(/^resolving a neighbour: the kernel answers ENODEV/)
  } finally {
    socket.close()
  }
})
