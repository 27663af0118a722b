// Who knows a connection's addresses and ports, and not its numbers, ends and bends nothing (RFC 5961; netfilter's
// window tests): whatever he sends from outside is dropped, or goes on for its receiver to answer, and the connection
// is what it was. Each state, of a connection from inside and to a port forward, with and without a helper. 100,000
// random packets: blind.long.test.ts.

import { describe, expect, it } from 'vitest'
import { KINDS, type Kind, LiveConnection, type Reached, STATES } from './live-connection.ts'
import { HOST } from './network.ts'
import { tcpSegment } from './packets.ts'

const SMALL_MSS = Uint8Array.of(2, 4, 0, 1)
/** Nobody's window reaches as far: behind, ahead. */
const FAR = [-(2 ** 30), 2 ** 30] as const
const NEAR = [-100_000, 200_000] as const
/** In the window, and not the exact number. */
const WITHIN = [-10, 1000] as const

interface MadeUp {
  readonly flags: string
  readonly seq: number
  readonly ack: number
  readonly payload?: string
}

const opensInside = (kind: Kind): boolean => kind.startsWith('from')

/** What may be sent blindly: all but what is within both windows, and the exact numbers of a reset or SYN/ACK. */
function* segments(state: Reached, kind: Kind): Generator<MadeUp> {
  const answersSyn = state === 'SYN_SENT' && opensInside(kind)
  for (const seq of [...FAR, ...NEAR, ...WITHIN, 0])
    for (const ack of [...FAR, ...NEAR, ...WITHIN, 0]) {
      const isBelievable = Math.abs(seq) < 70_000 && ack <= 0 && ack > -66_000
      if (seq !== 0) yield* ['R', 'RP'].map((flags) => ({ flags, seq, ack }))
      if (seq !== 0 && !(answersSyn && ack === 0)) yield* ['RA', 'RAP'].map((flags) => ({ flags, seq, ack }))
      if (!answersSyn || ack !== 0) yield* ['', 'x'].map((payload) => ({ flags: 'SA', seq, ack, payload }))
      // A simultaneous open; and what may open a closed connection of a port forward anew (RFC 9293 3.10.7.4).
      const mayOpen = answersSyn || (state === 'TIME_WAIT' && !opensInside(kind) && seq >= 0)
      if (!mayOpen) yield* ['S', 'SEW', 'SU'].map((flags) => ({ flags, seq, ack }))
      if (!mayOpen) yield { flags: 'S', seq, ack, payload: 'x' }
      if (isBelievable && state !== 'SYN_SENT') continue
      for (const flags of ['A', 'FA', 'FAP', 'FAU']) yield { flags, seq, ack }
      for (const flags of ['PA', 'A', 'FA']) yield { flags, seq, ack, payload: 'x'.repeat(20) }
    }
  for (const flags of ['', 'F', 'U', 'P', 'SF', 'SR', 'SFA', 'FRA', 'FSRPAU']) yield { flags, seq: 0, ack: 0 }
}

/** One of them after the other, each of which changes nothing. */
function attack(live: LiveConnection, state: Reached, kind: Kind): void {
  const { known } = live
  for (const segment of segments(state, kind)) {
    const { flags, seq, ack, payload = '' } = segment
    const tcp = flags.startsWith('S') ? { options: SMALL_MSS } : {}
    live.dialogue.gateway.outside(live.madeUp(flags, seq, ack, { tcp, payload }))
    expect({ segment, known: live.known }).toEqual({ segment, known })
  }
}

/** A segment in two pieces; the first one has all of its header, and its second nothing but bytes. */
function attackInPieces(live: LiveConnection, state: Reached): void {
  const { known } = live
  const { gateway } = live.dialogue
  const mayOpen = state === 'SYN_SENT' || state === 'TIME_WAIT'
  let id = 1
  for (const flags of ['A', 'PA', 'FA', 'SA', 'R', 'RA', ...(mayOpen ? [] : ['S'])])
    for (const seq of FAR)
      for (const ack of FAR) {
        const ip = { id: id++ }
        gateway.outside(live.madeUp(flags, seq, ack, { ip: { ...ip, moreFragments: true }, payload: 'x'.repeat(12) }))
        const { src, dst } = live.madeUp(flags, seq, ack).ip
        const piece = { src, dst, ...ip, fragmentOffset: 32 }
        gateway.outside({ ip: piece, protocol: { number: 6 }, payload: 'x'.repeat(20) })
        expect({ flags, known: live.known }).toEqual({ flags, known })
      }
}

for (const kind of KINDS)
  describe(`a connection ${kind}`, () => {
    for (const state of STATES)
      it(`in ${state}: nothing made up changes it`, async () => {
        const live = (await LiveConnection.begin(kind)).reach(state)
        // Less than a connection lives that was opened from outside and only answered.
        live.dialogue.gateway.pass(45)
        attack(live, state, kind)
        attackInPieces(live, state)
        live.goesOn()
      })

    it('whose outside end says nothing more: its FIN arrives', async () => {
      const live = (await LiveConnection.begin(kind)).reach('ESTABLISHED')
      attack(live, 'ESTABLISHED', kind)
      live.closes()
      live.goesOn()
    })

    it.each([
      ['ahead', 2 ** 20],
      ['behind', -(2 ** 20)],
    ])('that both ends forget: they find each other again by numbers %s', async (_where, by) => {
      for (const state of ['SYN_SENT', 'SYN_RECV', 'ESTABLISHED', 'FIN_WAIT', 'CLOSE_WAIT', 'LAST_ACK'] as const) {
        const live = (await LiveConnection.begin(kind)).reach(state)
        live.beginAnew(live.dialogue.client.isn + by, live.dialogue.server.isn + by)
        attack(live, 'ESTABLISHED', kind)
        live.goesOn()
      }
    })
  })

describe.each(KINDS.filter(opensInside))('a connection %s that nobody has answered', (kind) => {
  const open = async () => (await LiveConnection.begin(kind)).reach('SYN_SENT')
  const reset = (live: LiveConnection, by: number) =>
    live.dialogue.gateway.inside(
      tcpSegment(`${HOST}:5000`, live.dialogue.outside.from, 'R', {
        tcp: { seq: (live.dialogue.client.isn + 1 + by) >>> 0 },
      }),
    )

  it('goes on when its client resets what somebody has made up (RFC 9293 3.10.7.3)', async () => {
    const live = await open()
    const { known } = live
    for (const flags of ['A', 'PA', 'SA'])
      for (const ack of [-1000, -(2 ** 30)]) {
        expect(live.dialogue.gateway.outside(live.madeUp(flags, 77, ack))).toHaveLength(1)
        expect(reset(live, ack)).toHaveLength(1)
      }
    expect(live.dialogue.gateway.outside(live.madeUp('A', 77, 2 ** 30))).toHaveLength(1)
    expect(reset(live, 2 ** 30)).toHaveLength(1)
    expect(live.known).toEqual(known)
    live.goesOn()
  })

  it('is over when its client resets it by the exact number', async () => {
    const live = await open()
    expect(reset(live, 0)).toHaveLength(1)
    expect(live.row.state).toBe('CLOSE')
  })

  it('goes on after SYNs that somebody has made up, which its client does not answer', async () => {
    const live = await open()
    const syn = { tcp: { options: SMALL_MSS } }
    expect(live.dialogue.gateway.outside(live.madeUp('S', 4711, 0, syn))).toHaveLength(1)
    expect(live.dialogue.gateway.outside(live.madeUp('S', 2 ** 30, 0, syn))).toHaveLength(1)
    expect(live.row).toMatchObject({ state: 'SYN_SENT2', timeout: 240 })
    live.goesOn()
  })

  it('can be refused after them', async () => {
    const live = await open()
    live.dialogue.gateway.outside(live.madeUp('S', 4711, 0))
    live.dialogue.open()
    for (const [flags, seq, ack] of [
      ['R', 4712, 0],
      ['RA', 4712, -1],
      ['RA', 0, -100],
    ] as const) {
      live.dialogue.gateway.outside(live.madeUp(flags, seq, ack))
      expect(live.row.state).toBe('SYN_SENT2')
    }
    expect(live.dialogue.gateway.outside(live.madeUp('RA', 0, 0))).toHaveLength(1)
    expect(live.row.state).toBe('CLOSE')
  })

  it('opens by either of two SYNs of the same client, or is refused', async () => {
    for (const by of [2 ** 20, -(2 ** 20)]) {
      const live = await open()
      live.dialogue.forget(live.dialogue.client.isn + by, 700)
      live.dialogue.open()
      expect(live.dialogue.gateway.outside(live.madeUp('RA', 0, 0))).toHaveLength(1)
      expect(live.dialogue.gateway.counter('connections')).toBe(0)
    }
  })
})

describe('a helped connection', () => {
  it('goes on after a made-up simultaneous SYN with data, which is dropped', async () => {
    const live = (await LiveConnection.begin('from inside, helped')).reach('SYN_SENT')
    const { known } = live
    expect(live.dialogue.gateway.outside(live.madeUp('S', 4711, 0, { payload: 'x' }))).toEqual([])
    expect(live.dialogue.gateway.drops()).toEqual({ 'helper-window': 1 })
    expect(live.known).toEqual(known)
    live.goesOn()
  })

  it('lets no data out with a SYN that may begin a new one: without, its sender tries again', async () => {
    const { dialogue } = (await LiveConnection.begin('from inside, helped')).reach('ESTABLISHED')
    const syn = (payload: string) =>
      tcpSegment(`${HOST}:5000`, dialogue.outside.from, 'S', { tcp: { seq: 123 }, payload })
    expect(dialogue.gateway.inside(syn('PORT 10,0,0,5,1,2'))).toEqual([])
    expect(dialogue.gateway.drops()).toEqual({ 'helper-window': 1 })
    expect(dialogue.gateway.inside(syn(''))).toHaveLength(1)
  })
})
