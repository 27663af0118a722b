// Which helper's code a shard runs, as the coordinator reads it, and the limit of its heap (helpers/running-helper).

import { afterEach, beforeEach, expect, it } from 'vitest'
import { ENTRY, HelperList } from '../../src/helpers/helper-list.ts'
import { attachRunningHelper, enterHelper, leaveHelper, limitHeap } from '../../src/helpers/running-helper.shard.ts'
import { setClock } from '../../src/memory/clock.ts'
import { allocate } from '../../src/memory/region.ts'

let list: HelperList
let used: number
let looks: number

beforeEach(() => {
  list = allocate((region) => new HelperList(region, 2)).view
  attachRunningHelper(list.runningWordOf(1))
  used = 5 << 20
  looks = 0
  setClock(10_000)
})
afterEach(() => limitHeap(undefined))

it('is none before a call and after it, and the one that was entered in between', () => {
  expect(list.running(1)).toBeUndefined()
  for (const [entry, name] of [
    [ENTRY.help, 'help()'],
    [ENTRY.expected, 'expected()'],
    [ENTRY.state, 'state()'],
    [ENTRY.import, 'the import of its module'],
  ] as const) {
    enterHelper(255, entry)
    expect(list.running(1)).toEqual({ id: 255, entry: name })
    expect(list.running(0)).toBeUndefined()
    leaveHelper()
    expect(list.running(1)).toBeUndefined()
  }
})

it('stays when the heap is found too large after a call, which is looked at once a second', () => {
  limitHeap(() => {
    looks++
    return used
  })
  const callAt = (milliseconds: number) => {
    setClock(milliseconds)
    enterHelper(3, ENTRY.help)
    leaveHelper()
  }
  callAt(10_000)
  used = 300 << 20
  callAt(10_999)
  expect(looks).toBe(1)
  expect(() => callAt(11_000)).toThrow(/^its heap is over 256 MB$/)
  expect(list.running(1)).toEqual({ id: 3, entry: 'help()' })
  list.clearRunning(1)
  expect(list.running(1)).toBeUndefined()
})

it('is not to blame for what natloom keeps for helped connections, only for what is in use beyond that', () => {
  let own = 100 << 20
  limitHeap(
    () => used,
    () => own,
  )
  const callAt = (milliseconds: number) => {
    setClock(milliseconds)
    enterHelper(3, ENTRY.help)
    leaveHelper()
  }
  used = 350 << 20
  callAt(10_000)
  own = 90 << 20
  expect(() => callAt(11_000)).toThrow(/^its heap is over 256 MB$/)
  list.clearRunning(1)
})
