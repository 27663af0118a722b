// The window tests I to IV as netfilter documents them (nf_conntrack_proto_tcp.c, after Guido van Rooij's "Real
// Stateful TCP Packet Filtering in IP Filter"), written once more and for reading, apart from natloom's own. It is held
// against the kernel after every segment, so that what it says of a segment (which tests fail, and why the segment is
// invalid) may be counted as coverage and used by the generator, which aims at the edges of windows.
//
// For a segment with [seq, end) and the tracked edges of its sender and its receiver:
//   I    seq <= sender.maxEnd                 no data above what the receiver has offered
//   II   end >= sender.end - receiver.maxWin  no data so old that no receiver has room for it
//   III  sack <= receiver.end                 nothing is acknowledged that was not sent
//   IV   sack >= receiver.end - max(66000, sender.maxWin)

export type WindowTest = 'I' | 'II' | 'III' | 'IV'

/** What a gateway knows of one end of a connection. */
export interface Edges {
  end: number
  maxEnd: number
  /** 0: this end has sent nothing yet. */
  maxWin: number
  scale: number
  offersScale: boolean
  sackOK: boolean
  /** The highest acknowledgment that this end has sent. */
  maxAck: number | undefined
  beganClosing: boolean
  liberal: boolean
}

/** A segment in absolute numbers. */
export interface Numbers {
  readonly seq: number
  readonly end: number
  readonly ack: number
  /** The acknowledgment as the segment has it, where a helper's edits have not been taken out. */
  readonly rawAck: number
  readonly sack: number
  readonly window: number
  readonly isSyn: boolean
  readonly isRst: boolean
  readonly hasAck: boolean
  /** Of its options: undefined if it has none at all, so that what was known stays. */
  readonly offers: { readonly scale: number | undefined; readonly sackOK: boolean } | undefined
}

export type WindowOutcome = 'within' | 'overshoot' | 'over' | 'ack-over' | 'under' | 'ack-under'

const MAX_SCALE = 14
const LEAST_ACK_WINDOW = 66_000

export const unknownEdges = (): Edges => ({
  end: 0,
  maxEnd: 0,
  maxWin: 0,
  scale: 0,
  offersScale: false,
  sackOK: false,
  maxAck: undefined,
  beganClosing: false,
  liberal: false,
})

/** The sign of a - b in sequence space (RFC 9293 section 3.4). */
export const compare = (a: number, b: number): number => Math.sign((a - b) | 0)
const after = (a: number, b: number): boolean => compare(a, b) > 0
const add = (a: number, b: number): number => (a + b) >>> 0

/** A segment's options of a SYN, as far as tracking reads them. */
export function readOffers(edges: Edges, offers: Numbers['offers']): void {
  if (!offers) return
  edges.offersScale = offers.scale !== undefined
  edges.scale = Math.min(offers.scale ?? 0, MAX_SCALE)
  edges.sackOK = offers.sackOK
  edges.maxAck = undefined
  edges.beganClosing = false
}

/** Begins an end with its SYN. Scaling needs both ends' offers (RFC 7323 section 2.2). */
export function beginWithSyn(sender: Edges, receiver: Edges, segment: Numbers, isReply: boolean): void {
  sender.end = segment.end
  sender.maxEnd = segment.end
  sender.maxWin = Math.max(1, segment.window)
  readOffers(sender, segment.offers)
  if (isReply && !(sender.offersScale && receiver.offersScale)) {
    sender.scale = 0
    receiver.scale = 0
  }
}

/** An end that is first seen in the middle of a connection. */
export function beginInTheMiddle(sender: Edges, receiver: Edges, segment: Numbers): void {
  sender.end = segment.end
  sender.maxWin = Math.max(1, segment.window * 2 ** sender.scale)
  sender.maxEnd = add(segment.end, sender.maxWin)
  if (receiver.maxWin === 0) {
    receiver.end = segment.sack
    receiver.maxEnd = segment.sack
  } else if (segment.sack === add(receiver.end, 1)) {
    // The answer to a keep-alive that had no byte of data.
    receiver.end = add(receiver.end, 1)
  }
}

const ackWindow = (sender: Edges): number => Math.max(LEAST_ACK_WINDOW, sender.maxWin)

/** Every test that the segment fails. */
export function failedTests(sender: Edges, receiver: Edges, { seq, end, sack }: Numbers): WindowTest[] {
  const failed: WindowTest[] = []
  if (after(seq, sender.maxEnd)) failed.push('I')
  if (receiver.maxWin !== 0 && !after(end, sender.end - receiver.maxWin - 1)) failed.push('II')
  if (after(sack, receiver.end)) failed.push('III')
  if (!after(sack, receiver.end - ackWindow(sender) - 1)) failed.push('IV')
  return failed
}

/** What the failed tests mean: I and III make a segment invalid, II and IV let it pass and change nothing. */
export function outcomeOf(failed: readonly WindowTest[], sender: Edges, receiver: Edges, end: number): WindowOutcome {
  if (failed.includes('I')) {
    const overshot = add(end - sender.maxEnd, 1)
    const isAlone = failed.length === 1 && receiver.maxWin !== 0
    return isAlone && overshot <= receiver.maxWin ? 'overshoot' : 'over'
  }
  if (failed.includes('III')) return 'ack-over'
  if (failed.includes('II')) return 'under'
  return failed.includes('IV') ? 'ack-under' : 'within'
}

/** What a segment within all windows says about both ends. */
export function advance(sender: Edges, receiver: Edges, segment: Numbers): void {
  const { end, ack, sack } = segment
  const window = segment.isSyn ? segment.window : segment.window * 2 ** sender.scale
  sender.maxWin = Math.max(sender.maxWin, window + ((sack - ack) >>> 0))
  if (after(end, sender.end)) sender.end = end
  if (segment.hasAck && (sender.maxAck === undefined || after(ack, sender.maxAck))) sender.maxAck = ack
  if (receiver.maxWin !== 0 && after(end, sender.maxEnd)) receiver.maxWin += (end - sender.maxEnd) >>> 0
  if (after(add(sack, window), receiver.maxEnd - 1)) receiver.maxEnd = add(sack, Math.max(1, window))
}
