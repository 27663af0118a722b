// A first packet that is dropped after its connection was made, by the link, the size or a helper, begins nothing: as
// in Linux, where only what leaves is confirmed.

import { describe, expect, it } from 'vitest'
import { BUILTIN } from '../../src/helpers/builtin.ts'
import { fragments, frame } from '../../src/testing/builder.ts'
import { Gateway, type GatewayOptions } from './gateway.ts'
import { EXTERNAL, HOST, LAN, MAC, SERVER, WAN } from './network.ts'
import { tcpSegment, udp } from './packets.ts'
import { connectionsOf } from './tables.ts'

const large = (spec = udp(`${HOST}:5000`, `${SERVER}:53`)): Uint8Array =>
  frame({
    eth: { src: MAC.host, dst: MAC.lan },
    ...spec,
    ip: { ...spec.ip, dontFragment: true },
    payload: 'x'.repeat(1000),
  })
const SYN = tcpSegment(`${HOST}:5000`, `${SERVER}:21`, 'S')
const pieceOfSyn = fragments(frame({ eth: { src: MAC.host, dst: MAC.lan }, ...SYN, payload: 'x'.repeat(40) }), 32)[0]!

async function helped(): Promise<Gateway> {
  const gateway = await Gateway.start()
  const ftp = BUILTIN.ftp!()
  await gateway.help(ftp, [{ tuple: ftp.tuple }])
  return gateway
}

const forward = { protocol: 17, address: null, port: 5000, toAddress: 0x0500000a, toPort: 5000 }
const started = (options: GatewayOptions) => (): Promise<Gateway> => Gateway.start(options)

describe('a first packet that is dropped begins no connection', () => {
  const cases = [
    ['it is too large and must not be cut', started({ wanMtu: 576 }), LAN, large(), 'too-big'],
    ['the link is down', started({ down: [WAN] }), LAN, large(), 'link-down'],
    ['it is part of a segment that a helper was to read', helped, LAN, pieceOfSyn, 'helper-fragment'],
    [
      'it comes from outside and is too large inside',
      started({ lanMtu: 576, forwards: [forward] }),
      WAN,
      frame({
        ...{ eth: { src: MAC.server, dst: MAC.wan }, payload: 'x'.repeat(1000) },
        ...udp(`${SERVER}:53`, `${EXTERNAL}:5000`),
        ip: { src: SERVER, dst: EXTERNAL, dontFragment: true },
      }),
      'too-big',
    ],
  ] as const
  for (const [why, start, port, packet, reason] of cases)
    it(why, async () => {
      const gateway = await start()
      expect(gateway.fate(port, packet)).toMatch(reason)
      expect(connectionsOf(gateway.tables)).toEqual([])
      expect([gateway.counter('portsUsed', 0), gateway.counter('portsUsed', 1)]).toEqual([0, 0])
      gateway.check()
    })
})
