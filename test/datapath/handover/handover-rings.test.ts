import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import {
  ENTRY,
  HandoverRings,
  handoverFrameBytes,
  Inbox,
  NOT_LENT,
  Outbox,
} from '../../../src/datapath/handover/handover-rings.ts'
import type { At, Ingress } from '../../../src/datapath/packet/burst.ts'
import type { Shard } from '../../../src/memory/brand.ts'
import { allocate } from '../../../src/memory/region.ts'

const SHARDS = 2
const SLOTS = 512
const DISPATCHER = SHARDS
const INGRESS = 3

let rings: HandoverRings
let woken: number[]
const wake = (shard: number): number => woken.push(shard)

beforeEach(() => {
  rings = allocate((region) => new HandoverRings(region, SHARDS)).view
  woken = []
})

function put(outbox: Outbox, consumer: Shard, at: At, ingress: Ingress = INGRESS, token = NOT_LENT): void {
  outbox.put(consumer, at, 60, ingress, 0)
  if (token !== NOT_LENT) outbox.lend(consumer, token)
}

/** What a consumer lists of a ring, by `at`. */
function listed(inbox: Inbox, producer: number, most = 64): number[] {
  const count = inbox.receive(producer, most)
  return Array.from({ length: count }, (_, i) => rings.entries[inbox.entry(producer, count, i) + ENTRY.at]!)
}

describe('a ring between two threads', () => {
  it('shows nothing before it is published, then everything in order', () => {
    const [outbox, inbox] = [new Outbox(rings, 0), new Inbox(rings, 1)]
    for (const at of [10, 20, 30]) put(outbox, 1, at)
    expect(listed(inbox, 0)).toEqual([])
    outbox.publish(wake)
    expect(inbox.hasMail()).toBe(true)
    expect(listed(inbox, 0)).toEqual([10, 20, 30])
    inbox.release(0)
    expect(listed(inbox, 0)).toEqual([])
    expect(inbox.fullest).toBe(3)
  })

  it('lists entries of one ingress at a time, and at most a burst', () => {
    const [outbox, inbox] = [new Outbox(rings, 0), new Inbox(rings, 1)]
    for (const [at, ingress] of [
      [1, 5],
      [2, 5],
      [3, 6],
      [4, 6],
      [5, 6],
    ] as const)
      put(outbox, 1, at, ingress)
    outbox.publish(wake)
    expect([listed(inbox, 0), listed(inbox, 0, 2), listed(inbox, 0)]).toEqual([[1, 2], [3, 4], [5]])
  })

  it('leads from a shard to itself, and from the dispatcher', () => {
    const inbox = new Inbox(rings, 1)
    for (const producer of [1, DISPATCHER]) {
      const outbox = new Outbox(rings, producer)
      put(outbox, 1, producer)
      outbox.publish(wake)
      expect(listed(inbox, producer)).toEqual([producer])
    }
  })

  it('refuses when it is full, and has room again for what was released', () => {
    const [outbox, inbox] = [new Outbox(rings, 0), new Inbox(rings, 1)]
    for (let i = 0; i < SLOTS; i++) {
      expect(outbox.hasRoom(1)).toBe(true)
      put(outbox, 1, i)
    }
    expect(outbox.hasRoom(1)).toBe(false)
    expect(outbox.hasRoom(0)).toBe(true)
    outbox.publish(wake)
    listed(inbox, 0)
    expect(outbox.hasRoom(1)).toBe(false)
    inbox.release(0)
    expect(outbox.hasRoom(1)).toBe(true)
  })

  it('gives each entry a place of its own within the shared part', () => {
    const places = new Set<number>()
    for (let producer = 0; producer <= SHARDS; producer++)
      for (let consumer = 0; consumer < SHARDS; consumer++) {
        const outbox = new Outbox(rings, producer)
        for (let i = 0; i < rings.slots(producer); i++) {
          places.add(outbox.slotFor(consumer))
          put(outbox, consumer, i)
        }
      }
    expect(places.size).toBe(SHARDS * (SHARDS * SLOTS + rings.slots(DISPATCHER)))
    expect(Math.max(...places)).toBeLessThan(handoverFrameBytes(SHARDS))
  })

  it('keeps a model’s order under random puts, publications, lists and releases, over its wrap', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(4), fc.nat(70)), { maxLength: 200 }), (steps) => {
        const { view } = allocate((region) => new HandoverRings(region, SHARDS))
        rings = view
        // Close to where counts wrap.
        rings.heads.fill(0x7fffff80)
        rings.consumed.fill(0x7fffff80)
        const [outbox, inbox] = [new Outbox(rings, 0), new Inbox(rings, 1)]
        let [written, shown, seen, released] = [0, 0, 0, 0]
        for (const [step, amount] of steps) {
          if (step <= 1)
            for (let i = 0; i < amount; i++) {
              expect(outbox.hasRoom(1)).toBe(written - released < SLOTS)
              if (written - released < SLOTS) put(outbox, 1, written++)
            }
          else if (step === 2) {
            outbox.publish(wake)
            shown = written
          } else if (step === 3) {
            const list = listed(inbox, 0)
            expect(list).toEqual(Array.from({ length: Math.min(64, shown - seen) }, (_, i) => seen + i))
            seen += list.length
          } else {
            inbox.release(0)
            released = seen
          }
        }
      }),
    )
  })
})

describe('sleep', () => {
  it('is ended by the producer that publishes, once', () => {
    const [outbox, inbox] = [new Outbox(rings, 0), new Inbox(rings, 1)]
    inbox.hasMail()
    expect(inbox.fallAsleep()).toBe(true)
    put(outbox, 1, 1)
    outbox.publish(wake)
    put(outbox, 1, 2)
    outbox.publish(wake)
    expect(woken).toEqual([1])
  })

  it('does not begin after something has come', () => {
    const [outbox, inbox] = [new Outbox(rings, 0), new Inbox(rings, 1)]
    inbox.hasMail()
    put(outbox, 1, 1)
    outbox.publish(wake)
    expect(inbox.fallAsleep()).toBe(false)
    expect(woken).toEqual([])
  })

  it('is not disturbed by what goes to others', () => {
    const [outbox, inbox] = [new Outbox(rings, 0), new Inbox(rings, 1)]
    inbox.hasMail()
    inbox.fallAsleep()
    put(outbox, 0, 1)
    outbox.publish(wake)
    expect(woken).toEqual([])
  })
})

describe('after a thread’s death', () => {
  it('its successor as a consumer drops what was listed, hears of what was lent, and goes on behind', () => {
    const [outbox, dead] = [new Outbox(rings, 0), new Inbox(rings, 1)]
    put(outbox, 1, 1, INGRESS, 4711)
    put(outbox, 1, 2)
    put(outbox, 1, 3)
    outbox.publish(wake)
    expect(listed(dead, 0, 2)).toEqual([1, 2])

    const successor = new Inbox(rings, 1)
    const tokens: number[] = []
    expect(successor.takeOver((token) => tokens.push(token))).toBe(2)
    expect(tokens).toEqual([4711])
    expect(successor.hasMail()).toBe(true)
    expect(listed(successor, 0)).toEqual([3])
  })

  it('its successor as a producer overwrites what was never published', () => {
    const dead = new Outbox(rings, 0)
    put(dead, 1, 1)
    dead.publish(wake)
    put(dead, 1, 2)

    const successor = new Outbox(rings, 0)
    put(successor, 1, 3)
    successor.publish(wake)
    expect(listed(new Inbox(rings, 1), 0)).toEqual([1, 3])
  })

  it('a lent frame is under way from when it is shown until it is released, in whichever ring', () => {
    const [outbox, inbox] = [new Outbox(rings, 0), new Inbox(rings, 1)]
    put(outbox, 1, 1, INGRESS, 0)
    put(outbox, 0, 1, INGRESS, 4711)
    put(outbox, 1, 2)
    expect(rings.tokensLent()).toEqual(new Set())
    outbox.publish(wake)
    expect(rings.tokensLent()).toEqual(new Set([0, 4711]))
    listed(inbox, 0)
    expect(rings.tokensLent()).toEqual(new Set([0, 4711]))
    inbox.release(0)
    expect(rings.tokensLent()).toEqual(new Set([4711]))
  })

  const passedOn = [
    ["and published, is the next consumer's to give back", true],
    ['and not published, is given back by the successor', false],
  ] as const
  for (const [outcome, shown] of passedOn)
    it(`a lent frame that the dead one had passed on ${outcome}`, () => {
      const first = new Outbox(rings, DISPATCHER)
      put(first, 1, 1, INGRESS, 4711)
      first.publish(wake)
      const [dead, onward] = [new Inbox(rings, 1), new Outbox(rings, 1)]
      expect(listed(dead, DISPATCHER)).toEqual([1])
      dead.passOn(DISPATCHER, 1, 0, 0, onward.nextOf(0))
      put(onward, 0, 1, INGRESS, 4711)
      if (shown) onward.publish(wake)

      const tokens: number[] = []
      expect(new Inbox(rings, 1).takeOver((token) => tokens.push(token))).toBe(1)
      expect(tokens).toEqual(shown ? [] : [4711])
      expect(rings.tokensLent()).toEqual(new Set(shown ? [4711] : []))
    })

  it('whether a frame was passed on in an entry’s earlier life says nothing', () => {
    const [first, onward] = [new Outbox(rings, DISPATCHER), new Outbox(rings, 1)]
    const inbox = new Inbox(rings, 1)
    for (let lap = 0; lap <= rings.slots(DISPATCHER); lap++) {
      put(first, 1, lap, INGRESS, 4711)
      first.publish(wake)
      listed(inbox, DISPATCHER)
      if (lap > 0) continue
      inbox.passOn(DISPATCHER, 1, 0, 0, onward.nextOf(0))
      put(onward, 0, 1, INGRESS, 4711)
      onward.publish(wake)
      inbox.release(DISPATCHER)
    }
    const tokens: number[] = []
    new Inbox(rings, 1).takeOver((token) => tokens.push(token))
    expect(tokens).toHaveLength(rings.slots(DISPATCHER))
  })

  it('its successor rings for what it may have shown without ringing', () => {
    const inbox = new Inbox(rings, 1)
    inbox.hasMail()
    expect(inbox.fallAsleep()).toBe(true)
    new Outbox(rings, 0).ringAll(wake)
    expect(woken).toEqual([1])
    expect(inbox.hasMail()).toBe(true)
  })
})
