// Fragments of what a helper was to read: none goes out in which an inside address may be cut in two.

import { expect, it } from 'vitest'
import { HELPER_CUT_OFFS } from '../../../src/counters/counters.ts'
import { type Helper, Verdict } from '../../../src/helpers/helper.ts'
import { Gateway } from '../gateway.ts'
import { HOST, LAN, SERVER } from '../network.ts'
import { udp } from '../packets.ts'
import { failing, start } from './failures.ts'

const reading: Helper = { name: 'reading', tuple: { proto: 'udp', dstPort: 69 }, help: () => Verdict.Accept }

it('a fragment that names the inside address is dropped, any other goes on', async () => {
  for (const [payload, fate] of [
    [`PORT 10,0,0,5,${'1'.repeat(18)}`, 'helper-failed'],
    [`${'x'.repeat(22)}PORT 10,0,`, 'helper-failed'],
    ['x'.repeat(32), 'sent'],
  ] as const) {
    const gateway = await Gateway.start()
    await gateway.help(reading)
    gateway.fate(LAN, udp(`${HOST}:7000`, `${SERVER}:69`, { payload: 'hello' }))
    const fragment = { ...udp(`${HOST}:7000`, `${SERVER}:69`, { payload }) }
    const moreFragments = { ...fragment, ip: { ...fragment.ip!, moreFragments: true, id: 7 } }
    expect(gateway.fate(LAN, moreFragments as never)).toBe(fate)
  }
})

it('a fragment of a TCP segment does not go out, wherever its sender cuts an address', async () => {
  for (const [onFailure, fate] of [
    ['reset', 'helper-fragment'],
    ['pass', 'sent'],
  ] as const) {
    const d = await start(failing('FAIL'), {}, onFailure)
    const tcpHeader = { sport: 5000, dport: 21, seq: 1001, ack: d.client.ack, flags: 'AP' }
    const first = {
      ip: { src: HOST, dst: SERVER, id: 7, moreFragments: true },
      tcp: tcpHeader,
      payload: `${'x'.repeat(17)}PORT 10,0,0`,
    }
    expect(d.gateway.fate(LAN, first)).toBe(fate)
    expect(d.gateway.counter('helperCutOffs', HELPER_CUT_OFFS.indexOf('fragment'))).toBe(1)
  }
})
