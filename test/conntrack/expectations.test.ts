// What an expectation lets in, how long it stands, and what is refused (nf_conntrack_expect.c).

import { beforeEach, describe, expect, it } from 'vitest'
import {
  ANY_SOURCE,
  EXPECTATION,
  type ExpectationTable,
  INACTIVE,
  PERMANENT,
  WIDTH,
} from '../../src/conntrack/expectation-table.ts'
import { parseAddress, swap16 } from '../../src/wire/address.ts'
import {
  CLIENT,
  draft,
  EXTERNAL,
  type Expecting,
  expecting,
  makeTable,
  master,
  OUTSIDE_KEY,
  ports,
  SERVER,
  TCP,
  UDP,
} from './expecting.ts'

const CAPACITY = 64

let table: ExpectationTable
let shard: Expecting
let other: Expecting

beforeEach(async () => {
  table = makeTable(CAPACITY, 2)
  shard = await expecting(table, 0)
  other = await expecting(table, 1)
})

/** A packet to an external port, met by a shard; the handle of what it has claimed. */
const met = (by: Expecting, { from = SERVER, to = EXTERNAL, sourcePort = 20, port = 40000, key = OUTSIDE_KEY } = {}) =>
  by.claim(key, parseAddress(from), parseAddress(to), ports(sourcePort, port))
/** The same if it is then settled as not its own. */
function isLetIn(packet: Parameters<typeof met>[1] = {}): boolean {
  const handle = met(other, packet)
  if (handle !== 0) other.putBack(handle)
  return handle !== 0
}
const portOf = (port: number) => ({ dstPort: swap16(port), savedPort: swap16(port) })

describe('what an expectation lets in', () => {
  it('is the connection that was announced, whichever shard meets it, once', () => {
    const handle = shard.expect(draft())
    expect(handle).toBeGreaterThan(0)
    expect(shard.expectCount()).toBe(1)
    expect(met(other)).toBe(handle)
    expect(other.field(handle, 'savedAddress')).toBe(parseAddress(CLIENT))
    expect(met(shard)).toBe(0)
    other.consume(handle)
    expect(shard.expectCount()).toBe(0)
    expect(met(shard)).toBe(0)
  })

  const others = [
    ['another port', { port: 40001 }],
    ['another address', { to: CLIENT }],
    ['another source', { from: '192.0.2.8' }],
    ['another protocol', { key: UDP | (1 << 8) }],
    ['the other side', { key: TCP }],
  ] as const
  for (const [name, packet] of others)
    it(`is not a connection by ${name}`, () => {
      shard.expect(draft())
      expect(isLetIn(packet)).toBe(false)
      expect(isLetIn()).toBe(true)
    })

  it('may come from a prefix, or from anyone', () => {
    shard.expect(draft({ srcMask: parseAddress('255.255.255.0') }))
    shard.expect(draft({ ...portOf(40001), srcMask: 0, flags: ANY_SOURCE }))
    expect(isLetIn({ from: '192.0.2.200' })).toBe(true)
    expect(isLetIn({ from: '192.0.3.200' })).toBe(false)
    expect(isLetIn({ from: '198.51.100.1', port: 40001 })).toBe(true)
  })

  it('comes by one source port only if one was said', () => {
    shard.expect(draft({ srcPort: swap16(20) }))
    expect(isLetIn({ sourcePort: 20 })).toBe(true)
    expect(isLetIn({ sourcePort: 21 })).toBe(false)
  })

  it('is the newest of two that both match', () => {
    shard.expect(draft())
    const newer = shard.expect(draft({ srcMask: 0 }))
    expect(met(other)).toBe(newer)
    other.consume(newer)
    expect(isLetIn()).toBe(true)
  })

  it('waits until its deadline', () => {
    shard.expect(draft({ timeout: 30 }))
    other.setSecond(1029)
    expect(isLetIn()).toBe(true)
    other.setSecond(1030)
    expect(isLetIn()).toBe(false)
  })

  it('lets in one after the other if it is permanent', () => {
    const handle = shard.expect(draft({ flags: PERMANENT }))
    for (let i = 0; i < 3; i++) {
      expect(met(other)).toBe(handle)
      expect(other.isPermanent(handle)).toBe(true)
      other.putBack(handle, true)
    }
    expect(shard.expectCount()).toBe(1)
  })

  it('lets nothing in while it is inactive', () => {
    const handle = shard.expect(draft({ flags: INACTIVE }))
    expect(isLetIn()).toBe(false)
    expect(shard.activate(handle, true)).toBe(true)
    expect(isLetIn()).toBe(true)
    expect(shard.activate(handle, false)).toBe(true)
    expect(isLetIn()).toBe(false)
    expect(shard.expectCount()).toBe(1)
  })
})

describe('an announcement made once more', () => {
  it('waits anew, and names its port once', () => {
    const handle = shard.expect(draft({ timeout: 30, reservation: 78 }))
    shard.setSecond(1020)
    expect(shard.expect(draft({ timeout: 30, reservation: 78 }))).toBe(handle)
    expect(shard.released).toEqual([77])
    expect(shard.expectCount()).toBe(1)
    other.setSecond(1049)
    expect(isLetIn()).toBe(true)
  })

  it('is replaced if it says something else of the same connection', () => {
    const before = shard.expect(draft({ reservation: 78 }))
    const after = shard.expect(draft({ reservation: 79, savedPort: swap16(50) }))
    expect([shard.isStanding(before), shard.isStanding(after)]).toEqual([false, true])
    expect(shard.released).toEqual([77])
    expect(shard.expectCount()).toBe(1)
    expect(other.field(met(other), 'savedPort')).toBe(swap16(50))
  })
})

describe('one more than its class may have', () => {
  it('makes the oldest of the same master and class go', () => {
    const { row, generation } = master(shard)
    const common = { masterRow: row, masterGeneration: generation, maxExpected: 2 }
    const handles = [1, 2, 3].map((n) => shard.expect(draft({ ...common, ...portOf(40000 + n), reservation: n })))
    expect(handles.map(shard.isStanding)).toEqual([false, true, true])
    expect(shard.released).toEqual([0])
    // Of another class, and of another master: they have limits of their own.
    shard.expect(draft({ ...common, ...portOf(41000), class: 1 }))
    const second = master(shard, 50004)
    shard.expect(draft({ ...portOf(42000), masterRow: second.row, masterGeneration: second.generation }))
    expect(handles.map(shard.isStanding)).toEqual([false, true, true])
    expect(shard.expectCount()).toBe(4)
  })

  it('is refused while all that stand are being matched', () => {
    const first = shard.expect(draft({ maxExpected: 1 }))
    expect(met(other)).toBe(first)
    const refused = shard.expect(draft({ ...portOf(40001), maxExpected: 1, reservation: 5 }))
    expect([refused, shard.refusal()]).toEqual([0, 'class-limit'])
    expect(shard.released).toEqual([4])
    other.consume(first)
    expect(shard.expect(draft({ ...portOf(40001), maxExpected: 1 }))).toBeGreaterThan(0)
  })
})

describe('what is refused', () => {
  const overlaps = [
    ['the same', {}, true],
    ['anyone', { srcMask: 0 }, true],
    ['its prefix', { srcMask: parseAddress('255.255.255.0'), src: '192.0.2.9' }, true],
    ['another source', { src: '192.0.2.9' }, false],
    ['another source port', { srcPort: swap16(21) }, false],
    ['another port', portOf(40001), false],
  ] as const
  for (const [name, said, isRefused] of overlaps)
    it(`another master's: ${name}${isRefused ? '' : ', which is not refused'}`, () => {
      shard.expect(draft({ srcPort: swap16(20) }))
      const { row, generation } = master(other)
      const announced = other.expect(
        draft({ srcPort: swap16(20), ...said, masterRow: row, masterGeneration: generation, reservation: 9 }),
      )
      expect(announced === 0).toBe(isRefused)
      if (isRefused) expect(other.refusal()).toBe('overlap')
      expect(other.released).toEqual(isRefused ? [8] : [])
      expect(table.count()).toBe(isRefused ? 1 : 2)
    })

  it('a ninth to the same endpoint, whoever it is from', () => {
    const handles = Array.from({ length: 9 }, (_, i) => shard.expect(draft({ src: `192.0.2.${i}`, maxExpected: 255 })))
    expect([handles[8], shard.refusal()]).toEqual([0, 'bucket-full'])
    expect(shard.expectCount()).toBe(8)
  })

  it('one more than the gateway holds, until one goes', () => {
    table.setLimit(10)
    const handles = Array.from({ length: 11 }, (_, i) => shard.expect(draft({ ...portOf(1000 + i), maxExpected: 255 })))
    expect([handles[10], shard.refusal()]).toEqual([0, 'global-limit'])
    expect(shard.withdraw(handles[3]!)).toBe(true)
    expect(shard.expect(draft({ ...portOf(2000), maxExpected: 255 }))).toBeGreaterThan(0)
    expect(shard.expectCount()).toBe(10)
  })
})

describe('an expectation ends', () => {
  it('when its master does, but for what is matched', () => {
    const first = master(shard)
    const second = master(shard, 50004)
    const of = ({ row, generation }: typeof first) => ({ masterRow: row, masterGeneration: generation })
    const handles = [
      shard.expect(draft({ ...of(first), ...portOf(1), reservation: 1 })),
      shard.expect(draft({ ...of(first), ...portOf(2), reservation: 2 })),
      shard.expect(draft({ ...of(second), ...portOf(3), reservation: 3 })),
    ]
    expect(met(other, { port: 2 })).toBe(handles[1])
    shard.endMaster(first.row, first.generation)
    expect(shard.released).toEqual([0])
    expect(shard.isStanding(handles[2]!)).toBe(true)
    other.consume(handles[1]!)
    expect(shard.expectCount()).toBe(1)
  })

  it('without being told, where the shard that meets it is the dead master’s', () => {
    const { row, generation } = master(shard)
    shard.expect(draft({ masterRow: row, masterGeneration: generation }))
    shard.connections.connections.retire(row)
    expect(met(shard)).toBe(0)
  })

  it('when it is withdrawn, once, and by the shard of its master only', () => {
    const handle = shard.expect(draft({ reservation: 3 }))
    expect(other.withdraw(handle)).toBe(false)
    expect(shard.withdraw(handle)).toBe(true)
    expect(shard.withdraw(handle)).toBe(false)
    expect(shard.released).toEqual([2])
    // Its slot's next use is another expectation's.
    const next = shard.expect(draft())
    expect(shard.withdraw(handle)).toBe(false)
    expect(shard.isStanding(next)).toBe(true)
  })

  for (const handle of [0, -1, 1, 0xffff, 2 ** 31 - 1])
    it(`a helper that names ${handle}, which none is, does no harm`, () => {
      shard.expect(draft())
      expect([shard.withdraw(handle), shard.activate(handle, true)]).toEqual([false, false])
      expect(shard.expectCount()).toBe(1)
    })
})

describe('a reserved port', () => {
  const reserved = (by: Expecting, port = 40000) => by.reservedFor(TCP, parseAddress(CLIENT), swap16(port))

  it('is found by the inside endpoint as long as the expectation stands', () => {
    const handle = shard.expect(draft({ reservation: 78 }))
    expect([reserved(other), reserved(other, 40001)]).toEqual([77, -1])
    expect(other.reservedFor(UDP, parseAddress(CLIENT), swap16(40000))).toBe(-1)
    shard.withdraw(handle)
    expect(reserved(other)).toBe(-1)
    shard.expect(draft())
    expect(reserved(other)).toBe(-1)
  })

  it('is its matcher’s to give back', () => {
    const handle = shard.expect(draft({ reservation: 78 }))
    met(other)
    other.consume(handle)
    expect([shard.released, other.released]).toEqual([[], []])
    expect(reserved(other)).toBe(-1)
  })
})

it('lists what stands', () => {
  const { row, generation } = master(shard)
  const handle = shard.expect(
    draft({ masterRow: row, masterGeneration: generation, flags: INACTIVE | ANY_SOURCE, timeout: 60 }),
  )
  const into = new Int32Array(WIDTH)
  const standing = Array.from({ length: table.slots }, (_, slot) => slot).filter((slot) => table.copy(slot, into))
  expect(standing).toHaveLength(1)
  table.copy(standing[0]!, into)
  expect(into[EXPECTATION.flags]).toBe(INACTIVE | ANY_SOURCE)
  expect([into[EXPECTATION.masterSrc], into[EXPECTATION.masterPorts], into[EXPECTATION.masterKey]]).toEqual([
    parseAddress(CLIENT),
    ports(50003, 21),
    TCP,
  ])
  expect(shard.withdraw(handle)).toBe(true)
})
