// A TCP port is freed by the end of a whole mapping: which one goes when an address has no port left, and that nothing
// ends for nothing.

import { describe, expect, it } from 'vitest'
import { Gateway } from '../datapath/gateway.ts'
import { HOST, LAN, SERVER } from '../datapath/network.ts'
import { tcpSegment } from '../datapath/packets.ts'
import { has, open, TO } from './openings.ts'

const OTHER_HOST = '10.0.0.6'
const ONE_BLOCK = [20_480, 20_543] as const

describe('a port', () => {
  /** All ports but the last so many are those of established connections. */
  async function nearlyFull(free: number): Promise<Gateway> {
    const gateway = await Gateway.start({ ports: ONE_BLOCK, nat: { parity: false } })
    for (let port = 1; port <= 64 - free; port++) open(gateway, `${HOST}:${port}`)
    return gateway
  }

  for (const [what, upto] of [
    ['unanswered', 'syn'],
    ['closed', 'reset'],
  ] as const)
    it(`is found behind any number of ${what} connections that share theirs with a live one`, async () => {
      const gateway = await nearlyFull(1)
      for (let i = 0; i < 40; i++) open(gateway, `${HOST}:${1 + (i % 4)}`, upto, `${SERVER}:${1000 + i}`)
      open(gateway, `${HOST}:64`, upto)
      expect(open(gateway, `${OTHER_HOST}:1`)).not.toBe('refused')
      expect(has(gateway, `${HOST}:64`)).toBe(false)
      // None of the others has gone for nothing.
      expect(gateway.counter('connections', 0)).toBe(63 + 40 + 1)
      expect(open(gateway, `${OTHER_HOST}:2`)).toBe('refused')
      expect(gateway.counter('connections', 0)).toBe(63 + 40 + 1)
      gateway.check()
    })

  it('is freed by the end of all connections that share it, if none of them is in use', async () => {
    const gateway = await nearlyFull(1)
    for (let i = 0; i < 3; i++) open(gateway, `${HOST}:64`, i === 1 ? 'reset' : 'syn', `${SERVER}:${1000 + i}`)
    expect(open(gateway, `${OTHER_HOST}:1`)).not.toBe('refused')
    expect(has(gateway, `${HOST}:64`)).toBe(false)
    gateway.check()
  })

  it('is freed when the live one of those that share it has closed, or has gone', async () => {
    const gateway = await nearlyFull(1)
    const external = open(gateway, `${HOST}:64`)
    for (let i = 0; i < 3; i++) open(gateway, `${HOST}:64`, 'syn', `${SERVER}:${1000 + i}`)
    expect(open(gateway, `${OTHER_HOST}:1`)).toBe('refused')
    gateway.outside(tcpSegment(TO, external, 'R'))
    expect(open(gateway, `${OTHER_HOST}:1`)).not.toBe('refused')
    gateway.check()
  })

  it('of one connection goes before one of several, whose many connections are ended bit by bit', async () => {
    const gateway = await nearlyFull(2)
    for (let i = 0; i < 200; i++) open(gateway, `${HOST}:63`, 'syn', `${SERVER}:${1000 + i}`)
    open(gateway, `${HOST}:64`, 'syn')
    expect(open(gateway, `${OTHER_HOST}:1`)).not.toBe('refused')
    expect(has(gateway, `${HOST}:64`)).toBe(false)
    expect(gateway.counter('connections', 0)).toBe(62 + 200 + 1)
    const tries = [1, 2, 3, 4].map((i) => open(gateway, `${OTHER_HOST}:${100 + i}`) === 'refused')
    expect(tries).toEqual([true, true, true, false])
    gateway.check()
  })

  it('of a connection that is half-closed is kept', async () => {
    const gateway = await nearlyFull(1)
    open(gateway, `${HOST}:64`, 'half-closed')
    gateway.pass(100)
    expect(gateway.fate(LAN, tcpSegment(`${OTHER_HOST}:1`, TO, 'S'))).toBe('no-port')
    gateway.check()
  })
})
