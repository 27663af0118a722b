// Runs in an end host of the lab: answers what comes to some ports by the rules of test/attack/answers.ts, without the
// host's own sockets. The kernel sorts out everything else (socket filter) before it gets here, and the host's own
// answers are kept back by its nft rules (hosts.ts). Authority: packet(7), socket(7) SO_ATTACH_FILTER.

import { setFilter } from '../../src/io/af-packet-filter.ts'
import { bindTo, ETH_P_IP, packetSocket, setQdiscBypass } from '../../src/io/af-packet-sockets.ts'
import { interfaceIndex, recv, SO_RCVBUFFORCE, SOL_SOCKET, send, setsockoptInt } from '../../src/io/syscalls.ts'
import { HOST_INTERFACE } from '../../src/lab/world/topology.ts'
import { answer, LONGER } from '../../test/attack/answers.ts'
import { portFilter } from './port-filter.ts'

export interface Answerer {
  readonly address: string
  /** TCP and UDP. */
  readonly ports: readonly number[]
}

const RECEIVE_BUFFER = 8 << 20
const LONGEST = 2048

const { address, ports } = JSON.parse(process.argv[2] ?? '{}') as Answerer

const fd = packetSocket([])
setFilter(fd, portFilter(address, ports))
setsockoptInt(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
setQdiscBypass(fd, true)
bindTo(fd, HOST_INTERFACE, interfaceIndex(HOST_INTERFACE), ETH_P_IP)
const bytes = new Uint8Array(LONGEST + LONGER)
const mem = new DataView(bytes.buffer)
process.send?.('ready')
// SIGTERM ends the process: the loop never yields.
for (;;) {
  if (recv(fd, bytes, 0) <= 0) continue
  const length = answer(mem, 0)
  if (length > 0) send(fd, bytes.subarray(0, length), 0)
}
