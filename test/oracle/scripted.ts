// The scripted sequences: every state of a connection (how it is reached), and in each of them every kind of segment
// that somebody may send, by either end, with what would be sent next. And stories of their own.
//
// In the notation of script.ts; `E` is the end that sends, `O` the other, `{E+10}` ten above E's next number, `{zE}`
// the number that is zero on the wire.

import { readFileSync } from 'node:fs'
import { type End, otherEnd, parseSequence, type Sequence, type Side } from './script.ts'

interface Reached {
  readonly state: string
  readonly script: string
  /** The next number of either end. */
  readonly c: number
  readonly s: number
}

const OPEN = 'c S 0 <mss 1460,wscale 7,sackOK>'
const ANSWERED = `${OPEN}\ns SA 0 ack 1 win 65160 <mss 1460,wscale 7,sackOK>`
const ESTABLISHED = `${ANSWERED}\nc A 1 ack 1 win 502\nc PA 1+100 ack 1 win 502
s PA 1+200 ack 101 win 509
c A 101 ack 201 win 501`
const FIN = `${ESTABLISHED}\nc FA 101 ack 201 win 501`
const FIN_ACKED = `${FIN}\ns A 201 ack 102 win 509`
const BOTH_FIN = `${FIN_ACKED}\ns FA 201 ack 102 win 509`

const REACHED: readonly Reached[] = [
  { state: 'NONE', script: '', c: 0, s: 0 },
  { state: 'SYN_SENT', script: OPEN, c: 1, s: 0 },
  { state: 'SYN_SENT2', script: `${OPEN}\ns S 0 <mss 1460,wscale 7,sackOK>`, c: 1, s: 1 },
  { state: 'SYN_RECV', script: ANSWERED, c: 1, s: 1 },
  { state: 'ESTABLISHED', script: ESTABLISHED, c: 101, s: 201 },
  { state: 'ESTABLISHED without scaling', script: 'c S 0\ns SA 0 ack 1\nc A 1 ack 1\ns PA 1+100 ack 1', c: 1, s: 101 },
  { state: 'FIN_WAIT', script: FIN, c: 102, s: 201 },
  { state: 'FIN_WAIT by the server', script: `${ESTABLISHED}\ns FA 201 ack 101 win 509`, c: 101, s: 202 },
  { state: 'CLOSE_WAIT', script: FIN_ACKED, c: 102, s: 201 },
  { state: 'LAST_ACK', script: BOTH_FIN, c: 102, s: 202 },
  { state: 'TIME_WAIT', script: `${BOTH_FIN}\nc A 102 ack 202 win 501`, c: 102, s: 202 },
  { state: 'CLOSE', script: `${ESTABLISHED}\nc RA 101 ack 201`, c: 101, s: 201 },
  { state: 'CLOSE by the server', script: `${ESTABLISHED}\ns R 201`, c: 101, s: 201 },
]

const SENT: Readonly<Record<string, string>> = {
  'SYN ahead, answered': 'E S {E+100000} <wscale 2>\nO SA 300000 ack {E+100001} <wscale 2>\nE A {E+100001} ack 300001',
  'SYN ahead, challenged, reset': 'E S {E+100000}\nO A {O} ack {E}\nE R {E}',
  'SYN ahead, reset': 'E S {E+100000}\nO RA {O} ack {E+100001}',
  'SYN again': 'E S 0 <mss 1460,wscale 7,sackOK>\nO SA 0 ack 1 <mss 1460,wscale 7,sackOK>\nE A 1 ack 1',
  'SYN behind': 'E S -100000\nO RA {zO} ack -99999\nE S 0',
  'SYN with data': 'E S {E+100000}+100 <sackOK>\nO SA 300000 ack {E+100101} <sackOK>',
  'urgent SYN': 'E SU {E+5} urg 1',
  'SYN/ACK again': 'E SA 0 ack {O} <wscale 7>\nO A {O} ack {E}',
  'SYN/ACK with another number': 'E SA 700 ack {O}\nO R {O}\nO A {O} ack 701',
  'SYN/ACK for nobody': 'E SA {E} ack {O+1000}\nO R {O+1000}',
  'SYN/ACK with data': 'E SA 0+10 ack {O}\nO A {O} ack 11',
  'FIN, acknowledged, FIN': 'E FA {E} ack {O}\nO A {O} ack {E+1}\nO FA {O} ack {E+1}\nE A {E+1} ack {O+1}',
  'FIN with data': 'E FAU {E}+100 ack {O} urg 3\nO FA {O} ack {E+101}\nE A {E+101} ack {O+1}\nO A {O+1} ack {E+101}',
  'FIN above the window': 'E FA {E+9000000} ack {O}\nO FA {O} ack {E}',
  'FIN of unseen data': 'E FA {E} ack {O+1}\nO A {O} ack {E+1}',
  'FIN again': 'E FA {E-1} ack {O}\nO A {O} ack {E}',
  ACK: 'E A {E} ack {O}\nO A {O} ack {E}\nE A {E} ack {O}',
  'ACK of unseen data': 'E A {E} ack {O+1}\nO PA {O}+100 ack {E}',
  'ACK from long ago': 'E A {E} ack {O-9000000}\nO PA {O}+100 ack {E}',
  'ACK of a little while ago': 'E A {E} ack {O-65000}\nO PA {O}+100 ack {E}',
  'number from long ago': 'E A {E-9000000} ack {O}\nO A {O} ack {E}',
  'number far ahead': 'E A {E+9000000} ack {O}\nO A {O} ack {E+9000000}',
  'data, acknowledged': 'E PA {E}+100 ack {O}\nO A {O} ack {E+100}\nO PA {O}+50 ack {E+100}\nE A {E+100} ack {O+50}',
  'data three times':
    'E A {E}+100 ack {O}\nE A {E}+100 ack {O}\nE A {E}+100 ack {O}\nE A {E}+100 ack {O}\nO A {O} ack {E+100}',
  'data with a hole, SACK':
    'E A {E+1000}+100 ack {O}\nO A {O} ack {E} <sack {E+1000}:{E+1100}>\nO A {O} ack {E} <sack {E+1000}:{E+1101}>',
  'data above the window': 'E A {E+64200}+1000 ack {O}\nO A {O} ack {E+65200}',
  'urgent data': 'E PAU {E}+10 ack {O} urg 5\nO A {O} ack {E+10}',
  'keep-alive': 'E A {E-1} ack {O}\nO A {O} ack {E}\nE A {E-1}+1 ack {O}\nO A {O} ack {E}',
  'window closed, probed, opened':
    'E A {E} ack {O} win 0\nO A {O}+1 ack {E}\nE A {E} ack {O} win 0\nO A {O}+1000 ack {E}\nE A {E} ack {O+1} win 1000',
  RST: 'E R {E}\nO A {O} ack {E}\nO S {O+100000}',
  'RST, another': 'E R {E}\nE R {E}\nO R {O}',
  'RST a little ahead, challenged': 'E R {E+10}\nO A {O} ack {E}\nE R {E}',
  'RST behind': 'E R {E-10}\nO PA {O}+10 ack {E}',
  'RST far ahead': 'E R {E+9000000}\nO PA {O}+10 ack {E}',
  'RST with ACK': 'E RA {E} ack {O}\nE S {E+100000}\nO SA 300000 ack {E+100001}',
  'RST with an ACK of unseen data': 'E RA {E} ack {O+77}\nO A {O} ack {E}',
  'RST with zeros': 'E RA {zE} ack {zO}\nO A {O} ack {E}',
  'RST after data': 'E PA {E}+19 ack {O}\nE R {E+19} ack {O}',
  'no flags': 'E - {E}\nO A {O} ack {E}',
  'SYN and FIN': 'E SF {E+100000}\nO A {O} ack {E}',
  'FIN without ACK': 'E F {E}\nO A {O} ack {E}',
  'SYN and RST': 'E SR {E}\nO A {O} ack {E}',
  'Christmas tree': 'E FPU {E}\nO A {O} ack {E}',
  'wrong checksum': 'E FA {E} ack {O} badsum\nE R {E} badsum\nE S {E+100000} badsum\nE PA {E}+10 ack {O} badsum',
  'header too short': 'E A {E} ack {O} doff 4\nE S {E+100000} doff 4\nE R {E} doff 4',
  'header longer than the packet': 'E A {E} ack {O} doff 15\nE FA {E} ack {O} doff 15',
}

const ENDS: readonly End[] = ['c', 's']

export function scriptedSequences(): Sequence[] {
  let turn = 0
  const inEachState = REACHED.flatMap((reached) =>
    Object.entries(SENT).flatMap(([what, script]) =>
      ENDS.map((end) => {
        const opener: Side = turn++ % 3 === 0 ? 'outside' : 'inside'
        const name = `${reached.state}, ${end} sends: ${what}`
        return parseSequence(name, [`open ${opener}`, reached.script, filled(script, end, reached)].join('\n'))
      }),
    ),
  )
  return [...inEachState, ...scalings(), ...stories()]
}

const ISN = { c: 1000, s: 5000 }

/** The script with ends and numbers in place of E, O and braces. */
function filled(script: string, end: End, reached: Reached): string {
  const ends: Record<string, End> = { E: end, O: otherEnd(end) }
  return script
    .replace(/\{z([EO])\}/g, (_, who: string) => String(-ISN[ends[who]!]))
    .replace(/\{([EO])([+-]\d+)?\}/g, (_, who: string, more = '0') => String(reached[ends[who]!] + Number(more)))
    .replace(/^[EO]/gm, (who) => ends[who]!)
}

const SCALES = [undefined, 0, 3, 14, 15, 255]

/** A name and a script each. */
function stories(): Sequence[] {
  const [, ...all] = readFileSync(new URL('./stories.txt', import.meta.url), 'utf8').split(/^## /m)
  return all.map((story) => parseSequence(story.split('\n', 1)[0]!, story.slice(story.indexOf('\n'))))
}

/** Each end's window up to its edge and one beyond, with every combination of offers. */
function scalings(): Sequence[] {
  return SCALES.flatMap((offered) =>
    SCALES.map((answered) => {
      const option = (scale: number | undefined) => (scale === undefined ? '' : ` <wscale ${scale}>`)
      const isScaled = offered !== undefined && answered !== undefined
      const edge = (scale: number | undefined) => 1000 * 2 ** (isScaled ? Math.min(14, scale!) : 0)
      const script = [
        `c S 0 win 100${option(offered)}`,
        `s SA 0 ack 1 win 100${option(answered)}`,
        'c A 1 ack 1 win 1000',
        's A 1 ack 1 win 1000',
        `s A ${edge(offered)}+1 ack 1 win 1000`,
        `c A ${edge(answered)}+1 ack 1 win 1000`,
        `s A ${edge(offered) + 3}+1 ack 1 win 1000`,
        `c A ${edge(answered) + 3}+1 ack 1 win 1000`,
        `s A ${3 * edge(offered)}+1 ack 1 win 1000`,
        `c A ${3 * edge(answered)}+1 ack 1 win 1000`,
      ]
      return parseSequence(`scaling ${offered ?? 'none'} and ${answered ?? 'none'}`, script.join('\n'))
    }),
  )
}
