// The TCP state table of netfilter (nf_conntrack_proto_tcp.c), once more and independently: this is the copy to compare
// with, cell by cell.

import { describe, expect, it } from 'vitest'
import {
  IGNORE,
  ILLEGAL,
  INVALID,
  NEXT_STATE,
  SEGMENT_OF,
  SEGMENTS,
  TCP_STATES,
} from '../../src/conntrack/tcp-state.ts'

const SHORT: Readonly<Record<string, string>> = {
  NONE: 'no',
  SYN_SENT: 'SS',
  SYN_RECV: 'SR',
  ESTABLISHED: 'ES',
  FIN_WAIT: 'FW',
  CLOSE_WAIT: 'CW',
  LAST_ACK: 'LA',
  TIME_WAIT: 'TW',
  CLOSE: 'CL',
  SYN_SENT2: 'S2',
}

// In state:          no SS SR ES FW CW LA TW CL S2
const EXPECTED = [
  ['original', 'syn', 'SS SS IG IG IG IG IG SS SS S2'],
  ['original', 'synack', 'IV IV SR IV IV IV IV IV IV SR'],
  ['original', 'fin', 'IV IV FW FW LA LA LA TW CL IV'],
  ['original', 'ack', 'ES IV ES ES CW CW TW TW CL IV'],
  ['original', 'rst', 'IV CL CL CL CL CL CL CL CL CL'],
  ['reply', 'syn', 'IV S2 IV IV IV IV IV SS IV S2'],
  ['reply', 'synack', 'IV SR IG IG IG IG IG IG IG SR'],
  ['reply', 'fin', 'IV IV FW FW LA LA LA TW CL IV'],
  ['reply', 'ack', 'IV IG SR ES CW CW TW TW CL IG'],
  ['reply', 'rst', 'IV CL CL CL CL CL CL CL CL CL'],
] as const

const nameOf = (next: number): string =>
  next === IGNORE ? 'IG' : next === INVALID ? 'IV' : (SHORT[TCP_STATES[next]!] ?? '?')

describe('the TCP state table', () => {
  for (const [direction, segment, expected] of EXPECTED)
    it(`${direction} ${segment}: ${expected}`, () => {
      const base = (direction === 'reply' ? 128 : 0) | (SEGMENTS.indexOf(segment) << 4)
      expect(TCP_STATES.map((_, state) => nameOf(NEXT_STATE[base | state]!)).join(' ')).toBe(expected)
    })

  it('is invalid wherever nothing is defined', () => {
    const defined = new Set<number>()
    for (const direction of [0, 128])
      for (const segment of SEGMENTS.keys())
        for (const state of TCP_STATES.keys()) defined.add(direction | (segment << 4) | state)
    expect(defined.size).toBe(100)
    for (const [at, next] of NEXT_STATE.entries()) if (!defined.has(at)) expect(next).toBe(INVALID)
  })
})

describe('segments by their flags', () => {
  const LEGAL: Readonly<Record<string, (typeof SEGMENTS)[number]>> = {
    S: 'syn',
    SU: 'syn',
    SA: 'synack',
    R: 'rst',
    RA: 'rst',
    FA: 'fin',
    FAU: 'fin',
    A: 'ack',
    AU: 'ack',
  }
  const BITS: Readonly<Record<string, number>> = { F: 1, S: 2, R: 4, P: 8, A: 16, U: 32, E: 64, C: 128 }
  const bitsOf = (letters: string): number => [...letters].reduce((bits, letter) => bits | BITS[letter]!, 0)

  for (const [letters, segment] of Object.entries(LEGAL))
    it(`${letters} is a ${segment}, with or without PSH, ECE and CWR`, () => {
      for (const more of ['', 'P', 'E', 'C', 'PE', 'PC', 'EC', 'PEC'])
        expect(SEGMENTS[SEGMENT_OF[bitsOf(letters + more)]!]).toBe(segment)
    })

  it('every other set of flags is illegal', () => {
    const legal = Object.keys(LEGAL).map(bitsOf)
    for (let flags = 0; flags < 256; flags++)
      expect(SEGMENT_OF[flags] === ILLEGAL).toBe(!legal.includes(flags & ~bitsOf('PEC')))
  })
})
