import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Player } from './player.ts'
import { timed } from './timed.ts'

const PACKETS = 20_000

describe('the program of the offload, in the kernel', () => {
  let player: Player
  beforeAll(async () => {
    player = await Player.start()
  })
  afterAll(() => player.close())

  it(`does with ${PACKETS} random packets what the datapath does, or leaves them as they are`, () => {
    const first = Number(process.env.NLT_SEED ?? 20_261_130)
    for (let seed = first; seed < first + PACKETS; seed++) {
      const fault = player.play(seed)
      if (fault) expect.fail(`packet ${seed}: ${fault}`)
    }
    expect(player.faults()).toEqual([])
    expect(player.sent).toBeGreaterThan(PACKETS / 10)
    expect(player.refused).toBeGreaterThan(PACKETS / 10)
  })

  it('counts each packet of a run that is timed', () => {
    expect(timed()).toBeGreaterThan(0)
  })
})
