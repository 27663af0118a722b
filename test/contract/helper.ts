// What every helper promises (src/helpers/helper.ts), as tests. A helper's own test file calls describeHelper() with
// sessions of its protocol. What a context refuses by itself is refused by the one used here as well
// (src/testing/helper-script.ts): what is tested is that a helper does no harm with what it may do.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { helperFault } from '../../src/helpers/declaration.ts'
import type { Helper } from '../../src/helpers/helper.ts'
import type { ScriptOptions } from '../../src/testing/helper-script.ts'
import { type Dialogue, everyCut, outcomeOf, play } from '../helpers/dialogues.ts'
import { faultsOf, mutated, randomOf, recut } from '../helpers/mutations.ts'

export interface HelperFixture {
  /** Makes a new helper each time: two gateways have nothing in common. */
  make(): Helper
  /** Sessions of its protocol, each of which announces something. */
  readonly sessions: readonly (readonly [name: string, session: Dialogue, options?: ScriptOptions])[]
}

const MUTANTS = 500
/** A line of this many bytes is longer than any packet and most windows; a helper must still read it quickly. */
const LONG = 65_536
/** Of processor time, because time in which the thread could not run doesn't count. */
const MOST_MICROSECONDS = 500_000

const shifted = (port: number) => (port + 10_000) % 65_536 || 1

export function describeHelper(name: string, { make, sessions }: HelperFixture): void {
  describe(`helper contract: ${name}`, () => {
    const helper = make()
    const isStream = helper.tuple.proto === 'tcp'
    const bytes = fc.string({ unit: fc.nat(255).map((code) => String.fromCharCode(code)), maxLength: 200 })
    const dialogue = fc.array(fc.tuple(fc.constantFrom('original' as const, 'reply' as const), bytes))

    it('has a name, a tuple and classes as they may be', () => {
      expect(helperFault(helper)).toBeUndefined()
      expect(make().name).toBe(helper.name)
    })

    it('gives each connection a state of its own', () => {
      if (helper.state) expect(helper.state()).toEqual(helper.state())
      for (const [, session, options] of sessions) {
        const first = outcomeOf(play(helper, session, options))
        expect(outcomeOf(play(helper, session, options))).toEqual(first)
        expect(outcomeOf(play(make(), session, options))).toEqual(first)
      }
    })

    for (const [title, session, given] of sessions) {
      const options = { externalPort: shifted, ...given }

      describe(title, () => {
        it('is helped: something is expected, and nothing but what it announces is rewritten', () => {
          const script = play(helper, session, options)
          expect(script.everExpected.length).toBeGreaterThan(0)
          expect(faultsOf(script)).toEqual([])
        })

        it('is rewritten nowhere if nobody is translated', () => {
          const script = play(helper, session, { ...options, inside: 'none' })
          expect(script.edits).toEqual([])
        })

        it('expects nothing before there was traffic both ways', () => {
          const script = play(helper, session, { ...options, established: false })
          expect(script.everExpected).toEqual([])
          expect(script.edits).toEqual([])
        })

        it('is rewritten nowhere if no port is to be had', () => {
          const script = play(helper, session, { ...options, exhausted: true })
          expect(script.edits.filter(({ is }) => script.everExpected.some(({ told }) => is.includes(told)))).toEqual([])
          expect(faultsOf(script)).toEqual([])
        })

        // A datagram comes whole.
        if (isStream)
          it('is treated alike wherever it is cut', () => {
            const whole = outcomeOf(play(helper, session, options))
            for (const cut of everyCut(session)) expect(outcomeOf(play(helper, cut, options))).toEqual(whole)
          })

        it('is never taken for more than it is when bytes of it are wrong', () => {
          for (let seed = 0; seed < MUTANTS; seed++) {
            const random = randomOf(seed)
            const mutant = mutated(session, random)
            const script = play(helper, isStream ? recut(mutant, random) : mutant, options)
            expect({ seed, faults: faultsOf(script) }).toEqual({ seed, faults: [] })
          }
        })

        it('holds nothing once a sender has closed', () => {
          for (let seed = 0; seed < MUTANTS; seed++) {
            const random = randomOf(seed)
            const cut = isStream ? recut(session, random) : session
            const script = play(helper, cut.slice(0, random(cut.length + 1)), options)
            script.client('', true)
            script.server('', true)
            expect([script.held('original'), script.held('reply')]).toEqual(['', ''])
          }
        })
      })
    }

    it('reads any bytes', () => {
      fc.assert(fc.property(dialogue, (said) => faultsOf(play(helper, said)).length === 0))
    })

    it('is quick with a long line of anything', () => {
      for (const [, session, options] of sessions)
        for (const filler of [' ', 'A', '1', ',', '.', '@', ':', '"', '|', '\0', '\r', '\xff', '\n', 'a b'])
          for (const [i, [who, said]] of session.entries()) {
            const script = play(helper, session.slice(0, i), options)
            const before = process.cpuUsage()
            script.say(who, said.slice(0, said.length >> 1) + filler.repeat(LONG / filler.length))
            expect(process.cpuUsage(before).user).toBeLessThan(MOST_MICROSECONDS)
          }
    })
  })
}
