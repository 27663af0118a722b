// A notation for TCP sequences, after packetdrill's: a line says who is in contact first, each further line is one
// segment that one of the two ends sends.
//
//   open inside isn 1000 5000            who begins, and both ends' initial sequence numbers
//   c S 0 <wscale 7,sackOK>              c is the end that begins, s the other one
//   s SA 0 ack 1 win 65160 <wscale 7>
//   c PA 1+100 ack 1                     sequence number and, after the plus, bytes of data
//   s A 1 ack 101 <sack 201:301>
//   c R 101 badsum
//   c PA 1"PORT 10,0,0,5,{port}\r\n" ack 1      data that a helper reads; {port} is a port of the sequence's own
//
// `open inside helped` has a server that an FTP helper is bound to.
//
// Numbers are counted from the initial sequence number of the end whose bytes they name, modulo 2^32, as tcpdump does.
// After them: `win`, as sent (64240 unless said), `urg`, options in brackets, `badsum` for a wrong checksum, `doff` for
// a header length in words that isn't true.

export type End = 'c' | 's'
export type Side = 'inside' | 'outside'

export interface Options {
  readonly mss?: number
  readonly wscale?: number
  readonly sackOK?: boolean
  readonly timestamps?: boolean
  /** Left and right edges, counted like `ack`. */
  readonly sack?: readonly (readonly [left: number, right: number])[]
}

export interface Segment {
  readonly end: End
  /** Letters as in tcpdump; none at all is `-`. */
  readonly flags: string
  readonly seq: number
  readonly length: number
  /** What the data is, if it matters; `length` is its length. */
  readonly text: string
  readonly ack: number
  readonly window: number
  readonly urgent: number
  readonly options: Options
  readonly badChecksum: boolean
  /** In words; 0: as long as the header is. */
  readonly dataOffset: number
}

export interface Sequence {
  readonly name: string
  /** The side that c is on. */
  readonly opener: Side
  /** A helper reads the connection. */
  readonly helped: boolean
  /** Of c and of s. */
  readonly isn: readonly [number, number]
  readonly segments: readonly Segment[]
}

export const DEFAULT_WINDOW = 64240
const NO_OPTIONS: Options = {}
export const segment = (end: End, flags: string, seq: number, more: Partial<Segment> = {}): Segment => ({
  end,
  flags,
  seq,
  length: more.length ?? 0,
  text: more.text ?? '',
  ack: more.ack ?? 0,
  window: more.window ?? DEFAULT_WINDOW,
  urgent: more.urgent ?? 0,
  options: more.options ?? NO_OPTIONS,
  badChecksum: more.badChecksum ?? false,
  dataOffset: more.dataOffset ?? 0,
})

/** @throws RangeError with the line that can't be read. */
export function parseSequence(name: string, text: string): Sequence {
  const lines = text.split('\n').map((line) => line.replace(/#.*/, '').trim())
  let opener: Side = 'inside'
  let isn: readonly [number, number] = [1000, 5000]
  let helped = false
  const segments: Segment[] = []
  for (const line of lines.filter(Boolean)) {
    const head = /^open (inside|outside)( helped)?(?: isn (\d+) (\d+))?$/.exec(line)
    if (!head) {
      segments.push(parseSegment(line))
      continue
    }
    opener = head[1] as Side
    helped = head[2] !== undefined
    if (head[3] !== undefined) isn = [Number(head[3]), Number(head[4])]
  }
  return { name, opener, helped, isn, segments }
}

const LINE = new RegExp(
  [
    /^([cs]) (-|[SFRPUEWA]+) (-?\d+)(?:\+(\d+)|"([^"]*)")?/,
    /(?: ack (-?\d+))?(?: win (\d+))?(?: urg (\d+))?(?: <([^>]*)>)?( badsum)?(?: doff (\d+))?$/,
  ]
    .map(({ source }) => source)
    .join(''),
)

export function parseSegment(line: string): Segment {
  const match = LINE.exec(line)
  if (!match) throw new RangeError(`not a segment: ${line}`)
  const [, end, flags, seq, length = '0', quoted = '', ack = '0', window, urgent = '0', ...rest] = match
  const [options = '', badsum, dataOffset = '0'] = rest
  const text = quoted.replaceAll('\\r', '\r').replaceAll('\\n', '\n')
  return {
    end: end as End,
    flags: flags === '-' ? '' : flags!,
    seq: Number(seq),
    length: text === '' ? Number(length) : text.length,
    text,
    ack: Number(ack),
    window: window === undefined ? DEFAULT_WINDOW : Number(window),
    urgent: Number(urgent),
    options: parseOptions(options, line),
    badChecksum: badsum !== undefined,
    dataOffset: Number(dataOffset),
  }
}

function parseOptions(text: string, line: string): Options {
  const options: { -readonly [Name in keyof Options]: Options[Name] } = {}
  const sack: [number, number][] = []
  for (const word of text.split(',').filter(Boolean)) {
    const [name, value = ''] = word.trim().split(' ')
    if (name === 'mss') options.mss = Number(value)
    else if (name === 'wscale') options.wscale = Number(value)
    else if (name === 'sackOK') options.sackOK = true
    else if (name === 'ts') options.timestamps = true
    else if (name === 'sack') sack.push(value.split(':').map(Number) as [number, number])
    else throw new RangeError(`not an option of TCP: ${word} in ${line}`)
  }
  return sack.length > 0 ? { ...options, sack } : options
}

export const printHead = ({ opener, helped, isn }: Sequence): string =>
  `open ${opener}${helped ? ' helped' : ''} isn ${isn[0]} ${isn[1]}`

export function printSequence(sequence: Sequence): string {
  return [printHead(sequence), ...sequence.segments.map(printSegment)].join('\n')
}

export function printSegment(segment: Segment): string {
  const { end, flags, seq, length, text, ack, window, urgent, badChecksum, dataOffset } = segment
  const options = printOptions(segment.options)
  const quoted = text.replaceAll('\r', '\\r').replaceAll('\n', '\\n')
  const data = length === 0 ? '' : text === '' ? `+${length}` : `"${quoted}"`
  return [
    `${end} ${flags || '-'} ${seq}${data}`,
    ...(flags.includes('A') || ack !== 0 ? [`ack ${ack}`] : []),
    ...(window !== DEFAULT_WINDOW ? [`win ${window}`] : []),
    ...(urgent > 0 ? [`urg ${urgent}`] : []),
    ...(options ? [`<${options}>`] : []),
    ...(badChecksum ? ['badsum'] : []),
    ...(dataOffset > 0 ? [`doff ${dataOffset}`] : []),
  ].join(' ')
}

function printOptions({ mss, wscale, sackOK, timestamps, sack = [] }: Options): string {
  return [
    ...(mss === undefined ? [] : [`mss ${mss}`]),
    ...(wscale === undefined ? [] : [`wscale ${wscale}`]),
    ...(sackOK ? ['sackOK'] : []),
    ...(timestamps ? ['ts'] : []),
    ...sack.map(([left, right]) => `sack ${left}:${right}`),
  ].join(',')
}

/** The side that a segment comes from. */
export const sideOf = (sequence: Sequence, end: End): Side => {
  if (end === 'c') return sequence.opener
  return sequence.opener === 'inside' ? 'outside' : 'inside'
}

/** A number on the wire, from one counted from an end's initial sequence number. */
export const onWire = (sequence: Sequence, end: End, number: number): number =>
  (sequence.isn[end === 'c' ? 0 : 1] + number) >>> 0

export const otherEnd = (end: End): End => (end === 'c' ? 's' : 'c')
