// natloom against the reference tracker with natloom's policies (policy.ts), without the kernel: what
// oracle.host.test.ts holds against that too. And faults of tracking that were found so, as stories: each line ends in
// what becomes of its segment, and of the connection.

import { describe, expect, it } from 'vitest'
import { randomOf } from '../helpers/mutations.ts'
import { generate } from './generator.ts'
import { NatloomGateway } from './natloom.ts'
import { describe as inWords, type Observation } from './observation.ts'
import { NATLOOMS } from './policy.ts'
import { agrees, trackedBy } from './predictions.ts'
import { ReferenceTracker, type Settings } from './reference.ts'
import { parseSequence, printSequence, type Sequence } from './script.ts'
import { scriptedSequences } from './scripted.ts'

const STRICT: Settings = { pickup: false, liberal: false }
const SEED = Number(process.env.NLT_SEED ?? 4)
const GENERATED = 400
const LOT = 1000

/** Where natloom is not as it is meant to be: the sequence up to there. */
function strays(sequence: Sequence, seen: readonly Observation[], settings: Settings): string | undefined {
  const tracker = new ReferenceTracker(sequence, settings, NATLOOMS)
  for (const [step, segment] of sequence.segments.entries()) {
    if (agrees(tracker, tracker.judge(segment), seen[step]!)) continue
    const until = printSequence({ ...sequence, segments: sequence.segments.slice(0, step + 1) })
    return `${until}\n${inWords(seen[step]!)}, not ${JSON.stringify(trackedBy(tracker))}`
  }
  return undefined
}

describe.each([STRICT, { pickup: true, liberal: false }, { pickup: false, liberal: true }])(
  'tracking is as it is meant to be: pickup $pickup, liberal $liberal',
  (settings) => {
    it('in every sequence', async () => {
      const natloom = await NatloomGateway.start({ tcp: settings })
      const random = randomOf(SEED)
      const generated = Array.from({ length: GENERATED }, (_, i) => generate(i, random, settings))
      const sequences = [...scriptedSequences(), ...generated].filter(({ helped }) => !helped)
      for (let first = 0; first < sequences.length; first += LOT) {
        const lot = sequences.slice(first, first + LOT)
        const seen = natloom.run(lot)
        expect(lot.map((sequence, i) => strays(sequence, seen[i]!, settings)).filter(Boolean)).toEqual([])
      }
    })
  },
)

const OPEN = `
c S 0                   # passed, SYN_SENT [UNREPLIED]
s SA 0 ack 1 win 1000   # passed, SYN_RECV
c A 1 ack 1             # passed, ESTABLISHED [ASSURED]`

const STORIES: readonly (readonly [title: string, story: string, settings?: Settings])[] = [
  [
    "the client's reset without the exact number ends no connection that is being opened",
    `
c S 0                   # passed, SYN_SENT [UNREPLIED]
s SA 0 ack 1            # passed, SYN_RECV
c R 50                  # passed, SYN_RECV
c R 1                   # passed, CLOSE`,
  ],
  [
    'a reset without the exact number tells nothing of the end of its sender',
    `
c S 0                   # passed, SYN_SENT [UNREPLIED]
s SA 0 ack 1            # passed, SYN_RECV
c R 50                  # passed, SYN_RECV
s A 1 ack 50            # dropped, SYN_RECV`,
  ],
  [
    'a reset that acknowledges what was sent last is no answer in a connection that is being opened',
    `
c S 0                   # passed, SYN_SENT [UNREPLIED]
s SA 0 ack 1 win 0      # passed, SYN_RECV
s PA 1+10 ack 1 win 0   # passed, SYN_RECV
c RA 50000 ack 11       # dropped, SYN_RECV`,
  ],
  [
    "number 0 is not exact where an end's acknowledgement isn't known",
    `
c PA 1+10 ack 1         # passed, ESTABLISHED [UNREPLIED]
c FA 11 ack 1           # passed, FIN_WAIT [UNREPLIED]
c R -1000               # passed, FIN_WAIT [UNREPLIED]`,
    { pickup: true, liberal: false },
  ],
  [
    'a first answer to a connection that was picked up does not assure it',
    `
c PA 1+10 ack 1         # passed, ESTABLISHED [UNREPLIED]
s A 1 ack 11            # passed, ESTABLISHED
c A 11 ack 1            # passed, ESTABLISHED [ASSURED]`,
    { pickup: true, liberal: false },
  ],
  [
    'with selective acknowledgements a window may be larger than half of all numbers',
    `
c S 0 <wscale 0,sackOK>                          # passed, SYN_SENT [UNREPLIED]
s SA 0 ack 1 <wscale 14>                         # passed, SYN_RECV
s A 1+1 ack 1 win 65535                          # passed, SYN_RECV
c A 1073725341+100 ack 2                         # passed, ESTABLISHED [ASSURED]
s A 3 ack 1 win 65535 <sack 2:1073725441>        # passed, ESTABLISHED [ASSURED]
s FA 3 ack 1                                     # passed, FIN_WAIT [ASSURED]
c A 1073725441 ack 2                             # passed, CLOSE_WAIT [ASSURED]
c FA 2147450880 ack 2                            # passed, CLOSE_WAIT [ASSURED]`,
  ],
  [
    'what has no bytes goes on, believed or not, where a helper waits for the server to open',
    `
open inside helped
c S 35                  # passed, SYN_SENT [UNREPLIED]
s S 8                   # passed, SYN_SENT2
s A 524289 ack 36       # passed, SYN_SENT2`,
  ],
  [
    'a client that begins anew has the windows that it offers, whatever SYN has come in the name of its server',
    `
c S 0 <wscale 7>                        # passed, SYN_SENT [UNREPLIED]
s S 5000                                # passed, SYN_SENT2
c S 100000 <wscale 7>                   # passed, SYN_SENT2
s SA 0 ack 100001 win 1000 <wscale 7>   # passed, SYN_RECV
c A 100001 ack 1 win 1000               # passed, ESTABLISHED [ASSURED]
s PA 127000+10 ack 100001               # passed, ESTABLISHED [ASSURED]`,
  ],
  [
    'a reset whose numbers somebody has guessed does not end a connection that was picked up',
    `
open inside isn 1000000 0
c PA 1+10 ack 1         # passed, ESTABLISHED [UNREPLIED]
s RA 5000 ack -5000     # passed, ESTABLISHED [UNREPLIED]
s RA 1 ack 11           # passed, no entry`,
    { pickup: true, liberal: false },
  ],
  [
    'a connection that was picked up, and that nothing but a reset answers, is forgotten',
    `
c A 0 ack 0             # passed, ESTABLISHED [UNREPLIED]
s R 0                   # passed, no entry`,
    { pickup: true, liberal: false },
  ],
  [
    'also when it is closing',
    `
c A 1 ack 1             # passed, ESTABLISHED [UNREPLIED]
c FA 1 ack 1            # passed, FIN_WAIT [UNREPLIED]
s R 1                   # passed, no entry`,
    { pickup: true, liberal: false },
  ],
  [
    'an answer that comes before the reset lets it linger',
    `
c A 1 ack 1             # passed, ESTABLISHED [UNREPLIED]
s A 1 ack 1             # passed, ESTABLISHED
s R 1                   # passed, CLOSE`,
    { pickup: true, liberal: false },
  ],
  [
    'who sends a little too much closes too, where nobody is strict',
    `${OPEN}
c FA 1500 ack 1         # passed, FIN_WAIT [ASSURED]`,
    { pickup: false, liberal: true },
  ],
  [
    'a SYN that comes again with a wrong checksum and another number is not believed',
    `
c S 0                   # passed, SYN_SENT [UNREPLIED]
c S 5000 badsum         # dropped, SYN_SENT [UNREPLIED]
s SA 0 ack 1            # passed, SYN_RECV`,
  ],
  [
    'nor what is sent too much',
    `${OPEN}
c PA 1200+10 ack 1 badsum     # dropped, ESTABLISHED [ASSURED]
s A 1 ack 1210                # dropped, ESTABLISHED [ASSURED]`,
  ],
  [
    'nor an end, an answer, or a challenge',
    `
c S 0                   # passed, SYN_SENT [UNREPLIED]
s SA 0 ack 1 badsum     # dropped, SYN_SENT [UNREPLIED]
s A 0 ack 70000 badsum  # dropped, SYN_SENT [UNREPLIED]
s RA 0 ack 1 badsum     # dropped, SYN_SENT [UNREPLIED]
s SA 0 ack 1            # passed, SYN_RECV
c A 1 ack 1 badsum      # dropped, SYN_RECV
c A 1 ack 1             # passed, ESTABLISHED [ASSURED]
c R 1 badsum            # dropped, ESTABLISHED [ASSURED]
c FA 1 ack 1 badsum     # dropped, ESTABLISHED [ASSURED]
c FA 1 ack 1            # passed, FIN_WAIT [ASSURED]
s FA 1 ack 2            # passed, LAST_ACK [ASSURED]
c A 2 ack 2 badsum      # dropped, LAST_ACK [ASSURED]
c A 2 ack 2             # passed, TIME_WAIT [ASSURED]
c S 100000 badsum       # dropped, TIME_WAIT [ASSURED]`,
  ],
  [
    'nor the first answer to a connection that was picked up',
    `
c PA 1+10 ack 1         # passed, ESTABLISHED [UNREPLIED]
s A 1 ack 11 badsum     # dropped, ESTABLISHED [UNREPLIED]
s A 1 ack 11            # passed, ESTABLISHED
c A 11 ack 1 badsum     # dropped, ESTABLISHED`,
    { pickup: true, liberal: false },
  ],
]

describe('tracking', () => {
  for (const [title, story, settings = STRICT] of STORIES)
    it(title, async () => {
      const natloom = await NatloomGateway.start({ tcp: settings })
      const [seen] = natloom.run([parseSequence(title, story)])
      const expected = [...story.matchAll(/# (.*)$/gm)].map(([, words]) =>
        words!.endsWith('no entry') ? words : `${words} from inside`,
      )
      expect(seen!.map(inWords)).toEqual(expected)
    })
})
