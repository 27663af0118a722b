// The expiry sweep: what a turn ends of connections and quarantines is bounded, however many are due at once, and what
// is left is done in the next milliseconds, also by a shard that has no packets. How long turns are is measured by
// bench/limits.

import { expect, it } from 'vitest'
import { Gateway } from './gateway.ts'
import { LAN, SERVER } from './network.ts'
import { udp } from './packets.ts'

/** So many that a sixteenth of the rows, which a step looks at, is more than it ends. */
const CONNECTIONS = 6000
/** Of connections and quarantines together, in a turn. */
const MOST_ENDS = 256
const UDP = 1

it('ends a bounded number in a turn, and the shard does not sleep while more are due', async () => {
  const gateway = await Gateway.start({ connections: 8192, ports: [1024, 16_383], nat: { parity: false } })
  for (let sent = 0; sent < CONNECTIONS; sent += 50) {
    const flows = Array.from({ length: 50 }, (_, i) => udp(`10.0.0.5:${1000 + sent + i}`, `${SERVER}:80`))
    gateway.burst(LAN, flows)
  }
  expect(gateway.toWan()).toHaveLength(CONNECTIONS)
  const connections = () => gateway.counter('connections', UDP)
  const resting = () => gateway.counter('portsResting', UDP)
  /** Turns of a shard without packets; how many of them ended as many as they may. */
  const turnsUntil = (isDone: () => boolean): number => {
    let full = 0
    while (!isDone()) {
      const before = 2 * connections() + resting()
      gateway.turn()
      // A connection that ends leaves a port that rests.
      const ended = before - (2 * connections() + resting())
      expect(ended).toBeLessThanOrEqual(MOST_ENDS)
      const asleep = gateway.sleep()
      gateway.jump(asleep / 1000)
      if (ended < MOST_ENDS) continue
      full++
      expect(asleep).toBeLessThanOrEqual(2)
    }
    return full
  }
  gateway.jump(310)
  expect(turnsUntil(() => connections() === 0)).toBeGreaterThan(10)
  gateway.pass(10)
  expect([connections(), resting()]).toEqual([0, CONNECTIONS])
  gateway.jump(115)
  expect(turnsUntil(() => resting() === 0)).toBe(Math.floor(CONNECTIONS / MOST_ENDS))
  gateway.turn()
  expect(gateway.sleep()).toBeGreaterThan(20)
  gateway.check()
})
