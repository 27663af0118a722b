// The TCP state table of netfilter (nf_conntrack_proto_tcp.c, tcp_conntracks), written to be read and compiled into
// one flat array: next state by direction, kind of segment and present state. Sequence windows are a test of their
// own (tcp-window.shard.ts).

export const TCP_STATES = [
  'NONE',
  'SYN_SENT',
  'SYN_RECV',
  'ESTABLISHED',
  'FIN_WAIT',
  'CLOSE_WAIT',
  'LAST_ACK',
  'TIME_WAIT',
  'CLOSE',
  'SYN_SENT2', // simultaneous open: both ends have sent a SYN
] as const
export type TcpState = (typeof TCP_STATES)[number]

export const SYN_SENT = 1
export const SYN_RECV = 2
export const ESTABLISHED = 3
export const FIN_WAIT = 4
export const CLOSE_WAIT = 5
export const LAST_ACK = 6
export const TIME_WAIT = 7
export const CLOSE = 8
export const SYN_SENT2 = 9
/** The segment passes and changes nothing. */
export const IGNORE = 14
/** The segment belongs to no connection in this state. */
export const INVALID = 15

export const SEGMENTS = ['syn', 'synack', 'fin', 'ack', 'rst'] as const
export type Segment = (typeof SEGMENTS)[number]
export const SYN = 0
export const SYNACK = 1
const FIN = 2
export const ACK = 3
export const RST = 4
/** A combination of flags that no segment has. */
export const ILLEGAL = 5

/** How the table abbreviates; the columns are TCP_STATES in order. */
const ABBREVIATIONS: Record<string, number> = {
  SS: SYN_SENT,
  SR: SYN_RECV,
  ES: ESTABLISHED,
  FW: FIN_WAIT,
  CW: CLOSE_WAIT,
  LA: LAST_ACK,
  TW: TIME_WAIT,
  CL: CLOSE,
  S2: SYN_SENT2,
  IG: IGNORE,
  IV: INVALID,
}

const TABLE: Record<'original' | 'reply', Record<Segment, string>> = {
  original: {
    //       none SS SR ES FW CW LA TW CL S2
    syn: '   SS SS IG IG IG IG IG SS SS S2',
    synack: 'IV IV SR IV IV IV IV IV IV SR',
    fin: '   IV IV FW FW LA LA LA TW CL IV',
    ack: '   ES IV ES ES CW CW TW TW CL IV',
    rst: '   IV CL CL CL CL CL CL CL CL CL',
  },
  reply: {
    syn: '   IV S2 IV IV IV IV IV SS IV S2',
    synack: 'IV SR IG IG IG IG IG IG IG SR',
    fin: '   IV IV FW FW LA LA LA TW CL IV',
    ack: '   IV IG SR ES CW CW TW TW CL IG',
    rst: '   IV CL CL CL CL CL CL CL CL CL',
  },
}

/** Index: direction << 7 | segment << 4 | state. */
export const NEXT_STATE: Uint8Array = compile()

function compile(): Uint8Array {
  const flat = new Uint8Array(256).fill(INVALID)
  for (const [direction, rows] of [TABLE.original, TABLE.reply].entries())
    for (const [segment, name] of SEGMENTS.entries())
      for (const [state, word] of rows[name].trim().split(/\s+/).entries())
        flat[(direction << 7) | (segment << 4) | state] = ABBREVIATIONS[word]!
  return flat
}

const LEGAL_FLAGS = ['S', 'SU', 'SA', 'R', 'RA', 'FA', 'FAU', 'A', 'AU']
const FLAG_BITS: Record<string, number> = { F: 1, S: 2, R: 4, A: 16, U: 32 }
/** PSH, ECE and CWR say nothing about the state. */
const COUNTED_FLAGS = 1 | 2 | 4 | 16 | 32

/** The kind of segment by its flags byte. */
export const SEGMENT_OF: Uint8Array = classify()

function classify(): Uint8Array {
  const legal = new Set(LEGAL_FLAGS.map((set) => [...set].reduce((bits, flag) => bits | FLAG_BITS[flag]!, 0)))
  return Uint8Array.from({ length: 256 }, (_, flags) => {
    const counted = flags & COUNTED_FLAGS
    if (!legal.has(counted)) return ILLEGAL
    if (counted & 4) return RST
    if (counted & 2) return counted & 16 ? SYNACK : SYN
    return counted & 1 ? FIN : ACK
  })
}
