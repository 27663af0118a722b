import { describe, expect, it } from 'vitest'
import { type Ping, readPing, readTraceroute, type Trace } from '../../../src/lab/traffic/probes.ts'

const probe: Ping = { target: '198.51.100.10', count: 2, size: 56 }
const PING_HEAD = 'PING 198.51.100.10 (198.51.100.10) 56(84) bytes of data.\n'
const reply = (number: number) => `64 bytes from 198.51.100.10: icmp_seq=${number} ttl=63 time=0.143 ms\n`
const statistics = (received: number) =>
  `\n--- 198.51.100.10 ping statistics ---\n2 packets transmitted, ${received} received, 0% packet loss, time 200ms\n`

describe('what ping said', () => {
  const said = [
    // what                       output                                                            arrived wrong
    ['all came back', PING_HEAD + reply(1) + reply(2) + statistics(2), 2, 0],
    ['one was lost', PING_HEAD + reply(1) + statistics(1), 1, 0],
    ['one was lost, and ping sent on', PING_HEAD + reply(2) + reply(3) + statistics(2), 1, 0],
    ['still under way', PING_HEAD + reply(1), 1, 0],
    ['one came twice', `${PING_HEAD}${reply(1)}${reply(1).trim()} (DUP!)\n${reply(2)}${statistics(2)}`, 2, 1],
    ['another answered', PING_HEAD + reply(1).replace('100.10:', '100.11:') + reply(2) + statistics(2), 1, 1],
    ['another length', PING_HEAD + reply(1).replace('64 bytes', '63 bytes') + reply(2) + statistics(2), 1, 1],
    [
      'an ICMP error came',
      `${PING_HEAD}From 10.0.0.1 icmp_seq=1 Destination Host Unreachable\n${reply(2)}${statistics(1)}`,
      1,
      1,
    ],
  ] as const
  for (const [what, output, arrived, wrong] of said)
    it(`${what}: ${arrived} arrived, ${wrong} wrong`, () => {
      expect(readPing(output, probe)).toMatchObject({ planned: 2, arrived, wrong })
    })

  it('counts what it says that it sent', () => {
    expect(readPing(PING_HEAD + reply(1) + statistics(1), probe).sent).toBe(2)
  })
})

const trace: Trace = { by: 'udp', hops: ['10.0.0.1', '198.51.100.10'] }
const TRACE_HEAD = 'traceroute to 198.51.100.10 (198.51.100.10), 2 hops max, 60 byte packets\n'
const GATEWAY = ' 1  10.0.0.1  0.047 ms  0.010 ms  0.009 ms\n'

describe('what traceroute said', () => {
  const said = [
    // what                            output                                                     arrived wrong problems
    ['all answered', `${GATEWAY} 2  198.51.100.10  0.098 ms  0.015 ms  0.013 ms\n`, 6, 0, 0],
    ['the gateway was silent', ' 1  * * *\n 2  198.51.100.10  0.098 ms  0.015 ms  0.013 ms\n', 3, 0, 1],
    ['one probe was lost', `${GATEWAY} 2  198.51.100.10  0.098 ms * 0.013 ms\n`, 5, 0, 1],
    ['the target was not reached', `${GATEWAY} 2  203.0.113.9  0.098 ms  0.015 ms  0.013 ms\n`, 3, 3, 1],
    ['two answered for one hop', `${GATEWAY} 2  198.51.100.10  0.1 ms 10.0.0.1  0.1 ms  0.1 ms\n`, 3, 3, 1],
    ['it was refused', `${GATEWAY} 2  198.51.100.10  0.098 ms !H  0.015 ms !H  0.013 ms !H\n`, 3, 3, 1],
    ['it said nothing', '', 0, 0, 2],
  ] as const
  for (const [what, output, arrived, wrong, problems] of said)
    it(`${what}: ${arrived} arrived, ${wrong} wrong`, () => {
      const tally = readTraceroute(TRACE_HEAD + output, trace)
      expect(tally).toMatchObject({ planned: 6, sent: 6, arrived, wrong })
      expect(tally.problems).toHaveLength(problems)
    })
})
