// Real sessions, mutated: whatever comes, no fault, no third party, nothing changed but what was announced, and the
// same in any pieces. A longer run of the same is bench/helpers.ts.

import { describe, expect, it } from 'vitest'
import { BUILTIN } from '../../src/helpers/builtin.ts'
import type { ScriptOptions } from '../../src/testing/helper-script.ts'
import {
  type Dialogue,
  FTP_ACTIVE,
  FTP_PASSIVE,
  FTP_PASSIVE_INSIDE,
  IRC_SESSION,
  outcomeOf,
  play,
  TFTP_SESSION,
} from './dialogues.ts'
import { faultsOf, mutated, randomOf, recut } from './mutations.ts'

const RUNS = 4000

const shifted = (port: number) => (port + 10_000) % 65_536 || 1
const SESSIONS: readonly (readonly [string, string, Dialogue, ScriptOptions])[] = [
  ['active FTP', 'ftp', FTP_ACTIVE, { externalPort: shifted }],
  ['passive FTP', 'ftp', FTP_PASSIVE, { externalPort: shifted }],
  ['passive FTP, server inside', 'ftp', FTP_PASSIVE_INSIDE, { inside: 'server', externalPort: shifted }],
  ['IRC', 'irc', IRC_SESSION, { externalPort: shifted }],
  ['TFTP', 'tftp', TFTP_SESSION, { externalPort: shifted }],
]

describe.each(SESSIONS)('%s, mutated', (_, name, session, options) => {
  const helper = BUILTIN[name]!()

  it('is helped as it is', () => {
    const script = play(helper, session, options)
    expect(faultsOf(script)).toEqual([])
    expect(script.everExpected).toHaveLength(2)
  })

  it('breaks nothing', () => {
    let expected = 0
    for (let seed = 0; seed < RUNS; seed++) {
      const script = play(helper, mutated(session, randomOf(seed)), options)
      expect({ seed, faults: faultsOf(script) }).toEqual({ seed, faults: [] })
      expected += script.everExpected.length
    }
    // Otherwise the mutants would be nothing like sessions.
    expect(expected).toBeGreaterThan(RUNS / 4)
  })

  // A datagram comes whole.
  if (helper.tuple.proto === 'tcp')
    it('is treated alike in any pieces', () => {
      for (let seed = 0; seed < RUNS; seed++) {
        const random = randomOf(seed)
        const mutant = mutated(session, random).filter(([, bytes]) => bytes.length < 500)
        const pieces = recut(mutant, random)
        const cut = play(helper, pieces, options)
        expect({ seed, faults: faultsOf(cut) }).toEqual({ seed, faults: [] })
        expect({ seed, ...outcomeOf(cut) }).toEqual({ seed, ...outcomeOf(play(helper, mutant, options)) })
      }
    })

  it('expects nothing before there was traffic both ways', () => {
    for (let seed = 0; seed < RUNS / 4; seed++) {
      const script = play(helper, mutated(session, randomOf(seed)), { ...options, established: false })
      expect({ seed, edits: script.edits, expected: script.everExpected }).toEqual({ seed, edits: [], expected: [] })
    }
  })
})
