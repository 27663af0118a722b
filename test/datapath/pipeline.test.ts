import { beforeEach, describe, expect, it } from 'vitest'
import { Gateway } from './gateway.ts'
import { EXTERNAL, HOST, SERVER } from './network.ts'
import { printed } from './packets.ts'

describe('pipeline', () => {
  let gateway: Gateway
  beforeEach(async () => {
    gateway = await Gateway.start()
  })

  it('translates a connection out and its answer back', () => {
    const syn = { ip: { src: HOST, dst: SERVER }, tcp: { sport: 50000, dport: 80, flags: 'S' } }
    const [sent] = printed(gateway.inside(syn))
    const port = Number(/^IP 203\.0\.113\.1\.(\d+) > 192\.0\.2\.7\.80: Flags \[S\]/.exec(sent!)?.[1])
    const answer = { ip: { src: SERVER, dst: EXTERNAL }, tcp: { sport: 80, dport: port, flags: 'SA' } }
    expect(printed(gateway.outside(answer))).toEqual([
      'IP 192.0.2.7.80 > 10.0.0.5.50000: Flags [S.], seq 0, ack 0, win 64240, length 0',
    ])
    expect(gateway.drops()).toEqual({})
  })
})
