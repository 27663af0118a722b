// The port range between several gateways of one host, as a model: whoever runs has what it needs, and the last one
// that ends puts back what was there before the first.

import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { claimRange, type PortRange, type RangeClaim, releaseRange } from '../../src/host/port-range.ts'

const DEBIAN: PortRange = { from: 32768, to: 60999 }
const FOREIGN: PortRange = { from: 20000, to: 30000 }
const WANTED: readonly (PortRange | null)[] = [
  { from: 60992, to: 65535 },
  { from: 40000, to: 65535 },
  { from: 64512, to: 65535 },
  null,
]

class Model {
  current: PortRange = DEBIAN
  readonly claims = new Map<number, { readonly claim: RangeClaim | null; readonly running: boolean }>()

  start(gateway: number): void {
    if (this.claims.get(gateway)?.running) return
    const { claim, range } = claimRange(this.current, WANTED[gateway]!, this.#claims(gateway))
    this.claims.set(gateway, { claim, running: true })
    this.current = range
  }

  stop(gateway: number): void {
    if (!this.claims.get(gateway)?.running) return
    this.current = releaseRange(this.current, this.#claims(gateway)) ?? this.current
    this.claims.delete(gateway)
  }

  kill(gateway: number): void {
    const had = this.claims.get(gateway)
    if (had) this.claims.set(gateway, { ...had, running: false })
  }

  running = () => [...this.claims].filter(([, { running }]) => running).map(([gateway]) => gateway)

  #claims(gateway: number) {
    const others = (which: boolean) =>
      [...this.claims].flatMap(([other, { claim, running }]) =>
        other !== gateway && running === which && claim ? [claim] : [],
      )
    return { own: this.claims.get(gateway)?.claim, running: others(true), killed: others(false) }
  }
}

const steps = fc.array(fc.tuple(fc.constantFrom('start', 'stop', 'kill'), fc.nat(WANTED.length - 1)), { maxLength: 30 })

describe('the port range of several gateways', () => {
  it('leaves each that runs its ports, and is what it was after the last', () => {
    fc.assert(
      fc.property(steps, (history) => {
        const model = new Model()
        for (const [step, gateway] of history) {
          model[step as 'start' | 'stop' | 'kill'](gateway)
          for (const each of model.running()) {
            const wanted = WANTED[each]
            if (wanted) expect(model.current.from).toBeGreaterThanOrEqual(wanted.from)
          }
        }
        // Killed ones are started again: only they know what they left.
        for (const gateway of [...model.claims.keys()]) model.start(gateway)
        for (const gateway of [...model.claims.keys()]) model.stop(gateway)
        expect(model.current).toEqual(DEBIAN)
      }),
    )
  })

  it('stays as an administrator has set it meanwhile', () => {
    const { claim, range } = claimRange(DEBIAN, WANTED[0]!, { own: null, running: [], killed: [] })
    expect(range).toEqual(WANTED[0])
    expect(releaseRange(FOREIGN, { own: claim, running: [], killed: [] })).toBeUndefined()
    const again = claimRange(FOREIGN, WANTED[0]!, { own: claim, running: [], killed: [] })
    expect(again.claim?.original).toEqual(FOREIGN)
  })

  it('is an administrator’s, also if he has set it while other gateways run: the last one restores his', () => {
    const first = claimRange(DEBIAN, WANTED[0]!, { own: null, running: [], killed: [] }).claim!
    const { claim, range } = claimRange(FOREIGN, WANTED[1]!, { own: null, running: [first], killed: [] })
    expect(claim).toEqual({ original: FOREIGN, set: WANTED[1] })
    expect(range).toEqual(WANTED[0])
    // The first one ends, and then the one that has seen the administrator's.
    expect(releaseRange(range, { own: first, running: [claim!], killed: [] })).toEqual(WANTED[1])
    expect(releaseRange(WANTED[1]!, { own: claim, running: [], killed: [] })).toEqual(FOREIGN)
  })

  it('is not touched by a gateway that shares no address', () => {
    expect(claimRange(DEBIAN, null, { own: null, running: [], killed: [] })).toEqual({ claim: null, range: DEBIAN })
    expect(releaseRange(DEBIAN, { own: null, running: [], killed: [] })).toBeUndefined()
  })

  it('is an administrator’s also where a gateway that shares no address starts beside others', () => {
    const running = claimRange(DEBIAN, WANTED[0]!, { own: null, running: [], killed: [] }).claim!
    const others = { running: [running], killed: [] }
    expect(claimRange(FOREIGN, null, { own: null, ...others })).toEqual({ claim: null, range: FOREIGN })
    // Also if it shared one before it was killed; what gateways have set is brought in line with those that run.
    const own = { original: DEBIAN, set: WANTED[1]! }
    expect(claimRange(FOREIGN, null, { own, ...others })).toEqual({ claim: null, range: FOREIGN })
    expect(claimRange(WANTED[1]!, null, { own, ...others })).toEqual({ claim: null, range: WANTED[0] })
    expect(claimRange(WANTED[1]!, null, { own, running: [], killed: [] })).toEqual({ claim: null, range: DEBIAN })
  })
})
