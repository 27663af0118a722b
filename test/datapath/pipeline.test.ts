import { beforeEach, describe, expect, it } from 'vitest'
import { EXTERNAL, Gateway, HOST, printed, SERVER } from './gateway.ts'

const syn = (sport = 50000) => ({ ip: { src: HOST, dst: SERVER }, tcp: { sport, dport: 80, flags: 'S' } })

describe('pipeline', () => {
  let gateway: Gateway
  beforeEach(() => {
    gateway = new Gateway()
  })
  it('translates', () => {
    const out = gateway.inside(syn())
    console.log(printed(out), gateway.drops())
    const port = Number(/203\.0\.113\.1\.(\d+)/.exec(printed(out)[0]!)![1])
    console.log(
      printed(gateway.outside({ ip: { src: SERVER, dst: EXTERNAL }, tcp: { sport: 80, dport: port, flags: 'SA' } })),
      gateway.drops(),
    )
    expect(out.length).toBe(1)
  })
})
