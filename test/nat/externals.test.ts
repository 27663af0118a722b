// External addresses and leases as the coordinator keeps them, and the port words that shards change.

import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { allocate, Region } from '../../src/memory/region.ts'
import { Externals, POOL, SHARED, spaceOf, TCP_SPACE, UDP_SPACE, VACANT } from '../../src/nat/externals.ts'
import {
  freedAt,
  freedIn,
  isHostBound,
  isInQuarantine,
  isMapped,
  isSameWord,
  isTaken,
  MAPPED,
  mayBeGiven,
  replaceContent,
  reservationsIn,
  setFreed,
  setHostBound,
  unmap,
  withContent,
} from '../../src/nat/port-words.ts'

/** One reservation that names the port: bits 1 to 4 count them. */
const RESERVATION = 2
const [A, B, C] = [0x01000001, 0x02000001, 0x03000001]

let externals: Externals
beforeEach(() => {
  externals = allocate((region) => new Externals(region, { capacity: 2, blockSize: 64 })).view
})

describe('addresses', () => {
  it('take vacant entries, as many as there are', () => {
    expect([externals.add(A, SHARED), externals.add(B, POOL), externals.add(C, POOL)]).toEqual([0, 1, -1])
    expect([externals.find(A), externals.find(B), externals.find(C)]).toEqual([0, 1, -1])
    expect([externals.kindOf(0), externals.kindOf(1)]).toEqual([SHARED, POOL])
  })

  it('leave their entries with their leases, and the entry is another one afterwards', () => {
    externals.add(A, SHARED)
    externals.lease(0, UDP_SPACE, 300, 5)
    const generation = externals.generationOf(0)
    externals.remove(0)
    expect([externals.find(A), externals.kindOf(0)]).toEqual([-1, VACANT])
    expect(externals.ownerOfBlock(0, UDP_SPACE, 300)).toBe(-1)
    expect(externals.add(B, POOL)).toBe(0)
    expect(externals.generationOf(0)).not.toBe(generation)
  })

  it('are found by every thread that looks, as they come and go', () => {
    const { buffer, view } = allocate((region) => new Externals(region, { capacity: 2, blockSize: 64 }))
    const other = new Externals(new Region(buffer), { capacity: 2, blockSize: 64 })
    expect(other.find(A)).toBe(-1)
    view.add(A, SHARED)
    view.add(B, POOL)
    expect([other.find(A), other.find(B)]).toEqual([0, 1])
    view.remove(0)
    view.add(C, POOL)
    expect([other.find(A), other.find(B), other.find(C)]).toEqual([-1, 1, 0])
  })

  it('change the version, as leases do', () => {
    const versions = [externals.version()]
    const changing = (change: () => unknown): void => {
      change()
      versions.push(externals.version())
    }
    changing(() => externals.add(A, SHARED))
    changing(() => externals.lease(0, TCP_SPACE, 300, 0))
    changing(() => externals.takeBack(0, TCP_SPACE, 300))
    changing(() => externals.remove(0))
    expect(new Set(versions).size).toBe(5)
  })
})

describe('blocks', () => {
  const word = (port: number): number => externals.portIndex(0, TCP_SPACE, port)
  beforeEach(() => {
    externals.add(A, SHARED)
    externals.lease(0, TCP_SPACE, 300, 3)
  })

  it('are leased by address, space and number', () => {
    expect(externals.ownerOfBlock(0, TCP_SPACE, 300)).toBe(3)
    expect(externals.ownerOfBlock(0, UDP_SPACE, 300)).toBe(-1)
    expect(externals.ownerOfBlock(0, TCP_SPACE, 301)).toBe(-1)
    expect([6, 17, 1, 47].map(spaceOf)).toEqual([0, 1, 2, 2])
  })

  it('are taken back only if no port of them is in use', () => {
    const port = 300 * 64 + 63
    externals.portWords[word(port)] = MAPPED
    expect(externals.takeBack(0, TCP_SPACE, 300)).toBe(false)
    expect(externals.ownerOfBlock(0, TCP_SPACE, 300)).toBe(3)
    externals.portWords[word(port)] = RESERVATION
    expect(externals.takeBack(0, TCP_SPACE, 300)).toBe(false)
    externals.portWords[word(port)] = freedAt(10)
    expect(externals.takeBack(0, TCP_SPACE, 300)).toBe(true)
    expect(externals.ownerOfBlock(0, TCP_SPACE, 300)).toBe(-1)
    expect(externals.takeBack(0, TCP_SPACE, 300)).toBe(true)
  })

  it('are looked at no further than they reach', () => {
    externals.portWords[word(300 * 64 - 1)] = MAPPED
    externals.portWords[word(301 * 64)] = MAPPED
    externals.portWords[externals.portIndex(0, UDP_SPACE, 300 * 64)] = MAPPED
    expect(externals.takeBack(0, TCP_SPACE, 300)).toBe(true)
  })

  it('that were refused to be taken back change the version, for a shard that has looked meanwhile', () => {
    externals.portWords[word(300 * 64)] = MAPPED
    const version = externals.version()
    externals.takeBack(0, TCP_SPACE, 300)
    expect(externals.version()).not.toBe(version)
  })
})

describe('a port word', () => {
  /** Everything that is done to a word, with what it makes of the content that the word should have. */
  interface Content {
    mapped: boolean
    reservations: number
    freed: number
    bound: boolean
  }
  const changes: Record<string, (words: Int32Array, content: Content) => void> = {
    map: (words, content) => {
      if (replaceContent(words, 0, words[0]!, MAPPED))
        Object.assign(content, { mapped: true, reservations: 0, freed: 0 })
    },
    unmap: (words, content) => {
      unmap(words, 0, freedAt(77))
      Object.assign(content, { mapped: false, freed: freedAt(77) })
    },
    'end the quarantine': (words, content) => {
      if (setFreed(words, 0, words[0]!, 0)) Object.assign(content, { mapped: false, freed: 0 })
    },
    reserve: (words, content) => {
      const word = words[0]!
      if (content.reservations === 15) return
      words[0] = withContent(word, word + RESERVATION)
      content.reservations++
    },
    'the host opens a socket': (words, content) => {
      setHostBound(words, 0, true)
      content.bound = true
    },
    'the host closes it': (words, content) => {
      setHostBound(words, 0, false)
      content.bound = false
    },
  }

  it('keeps the host’s bit and NAT’s part apart, whatever is done to either', () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.array(fc.constantFrom(...Object.keys(changes)), { maxLength: 40 }),
        (version, done) => {
          const words = Int32Array.of(withContent(version, 0))
          setHostBound(words, 0, false)
          const content: Content = { mapped: false, reservations: 0, freed: 0, bound: false }
          for (const change of done) {
            const before = words[0]!
            changes[change]!(words, content)
            const word = words[0]!
            expect(isHostBound(word)).toBe(content.bound)
            expect(isMapped(word)).toBe(content.mapped)
            expect(reservationsIn(word)).toBe(content.reservations)
            expect(freedIn(word)).toBe(content.freed)
            expect(isTaken(word)).toBe(content.mapped || content.reservations > 0)
            expect(mayBeGiven(word)).toBe(!isTaken(word) && content.freed === 0 && !content.bound)
            // The host's part is none of what a word is recognised by; all that NAT does is.
            if (change.startsWith('the host')) expect(isSameWord(before, word)).toBe(true)
          }
        },
      ),
    )
  })

  it('is replaced although the host has opened a socket since it was read, and not if NAT has done anything', () => {
    const words = Int32Array.of(withContent(0, MAPPED))
    const read = words[0]!
    setHostBound(words, 0, true)
    expect(replaceContent(words, 0, read, RESERVATION)).toBe(true)
    expect([isHostBound(words[0]!), isMapped(words[0]!), reservationsIn(words[0]!)]).toEqual([true, false, 1])
    setHostBound(words, 0, false)
    expect(replaceContent(words, 0, read, MAPPED)).toBe(false)
    expect([isHostBound(words[0]!), isMapped(words[0]!), reservationsIn(words[0]!)]).toEqual([false, false, 1])
  })

  it('says whether a mapping has the port, or a reservation names it', () => {
    expect([0, freedAt(5), MAPPED, RESERVATION, RESERVATION * 15].map(isTaken)).toEqual([
      false,
      false,
      true,
      true,
      true,
    ])
  })

  it('differs after every change, also to what it was before', () => {
    const seen = new Set<number>()
    let word = 0
    for (let change = 0; change < 1000; change++) {
      seen.add(word)
      word = withContent(word, change & 1)
    }
    expect(seen.size).toBe(1000)
  })

  it('keeps its content whatever its version', () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat(0x1ffff), (word, content) => {
        expect(withContent(word, content) & 0x1ffff).toBe(content)
      }),
    )
  })

  it('is in quarantine for as long as it is asked to, from the second that it was freed', () => {
    fc.assert(
      fc.property(fc.nat(10_000_000), fc.integer({ min: 0, max: 3000 }), (second, later) => {
        const word = withContent(12345, freedAt(second))
        expect(isInQuarantine(word, second + later, 120)).toBe(later < 120)
      }),
    )
    expect(isInQuarantine(0, 5, 120)).toBe(false)
  })
})
