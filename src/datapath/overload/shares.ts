// Who may have how much of a queue that fills faster than this thread can take from it: a receive ring, or a ring by
// which another thread hands over. Without this a full queue loses by arrival, so that whoever sends most has most of
// the thread. Here each sender has an equal share at most, and what one doesn't ask for is divided among the others
// (max-min fairness, as of Demers, Keshav and Shenker's fair queueing; by early drops, since a ring can't be served out
// of order, as of Pan, Breslau, Prabhakar and Shenker's approximate fair dropping).
//
// While the queue keeps up, nothing is counted or asked but whether three quarters of it are filled, and that only
// after a full burst. A thread that wasn't scheduled for a while finds a full queue too, and empties it: so it counts
// as overloaded only after twice as many packets as the queue has room for were taken and it is no emptier.
//
// Then time goes by rounds: what waits when a round begins is what the round takes. Two figures are learned of one:
//   how many packets it kept, and how many had come when it was over: how many the next one may keep, so that two
//     fifths of the queue are filled again when it ends. A drop costs little, so a round takes whatever waits;
//   how many came of each sender: how many of each the next one may keep at most, so that the kept ones are that many.
// The latter is a rate, in packets kept for each packet that comes. A sender gathers it as credit, up to an eighth of
// the queue, and pays with it for what is kept; so nobody whose packets come in bursts has less of it. No clock is
// read, and no packet passes another. Measured: docs/decisions/0048.
//
// A flood stops for some milliseconds whenever its sender has no processor, and is there again. So a queue that has
// been shared is until it has kept up for a while: what is kept then is all, at the price of the counting.
//
// All of it is a cache: a thread that starts anew begins without overload. Owner: this thread.

import { BURST } from '../../io/driver.ts'
import { random32 } from '../../memory/random.ts'

/** Senders are counted by the hash of their address, in so many buckets. */
const BUCKETS_LOG = 12
const BUCKETS = 1 << BUCKETS_LOG
/** Buckets for all senders that nothing is known of: together they have no more than so many hosts. */
const STRANGERS_LOG = 2
const STRANGERS = 1 << STRANGERS_LOG
/** So much of the queue a sender that was quiet may have kept at once. */
const MOST_CREDIT = 1 / 8
/** That many packets in any case, and as many at first. */
const LEAST_CREDIT = BURST / 2
/** After so many packets buckets are drawn anew, so that nobody shares one with a flood for long. */
const DRAWN_EVERY = 1 << 18
/** The fewest packets that a round is to keep. */
const FEWEST = 4
/** So much of the queue is to be filled again when a round ends. */
const FILLED = 2 / 5
/** Where so much of it is filled, a queue may be about to lose packets. */
const NEARLY_FULL = 3 / 4
/** So often must all that it can hold be taken before it counts as overloaded. */
const PATIENCE = 2
/** So often must what it can hold be taken of a queue that is nearly empty before it is nobody's to share. */
const CALM = 16
/**
 * From round to round, how many are kept changes by these factors at most. Less by little: a thread whose processor was
 * somebody else's for a while finds more than has come while it worked, and would keep nearly nothing.
 */
const LEAST_CHANGE = 2 / 3
const MOST_CHANGE = 2

/** The queue, as its owner sees it. */
export interface Queue {
  /** Packets that it has room for. */
  readonly slots: number
  /** Whether it holds so many packets, those of the burst in hand included. */
  holds(packets: number): boolean
}

export class Shares {
  /** More comes than the thread can take: true from the burst that shows it until the queue keeps up again. */
  isSharing = false
  /** How often that began. */
  overloads = 0

  readonly #queue: Queue
  /** As many packets can wait when a burst is in hand. */
  readonly #room: number
  readonly #nearlyFull: number
  readonly #mostCredit: number
  /** By bucket: credit in packets, the count of packets when it was brought up to date, packets in this round. */
  readonly #credit = new Float64Array(BUCKETS + STRANGERS)
  readonly #dated = new Int32Array(BUCKETS + STRANGERS)
  readonly #came = new Int32Array(BUCKETS + STRANGERS)
  /** The buckets that have packets in this round. */
  readonly #touched = new Int32Array(BUCKETS + STRANGERS)
  #touchedCount = 0
  /** Packets that were asked about since buckets were drawn; wraps never. */
  #count = 0
  #salt = 0
  /** Packets kept for each that comes, of one sender; 1 and above: all. */
  #rate = 1
  /** Of this round: packets still to be listed, listed, kept. */
  #left = 0
  #listed = 0
  #kept = 0
  /** How many packets this round is to keep. */
  #affordable = 0
  /** Packets taken while the queue has been nearly full; in an overload, nearly empty. */
  #taken = 0

  constructor(queue: Queue) {
    this.#queue = queue
    this.#room = queue.slots - BURST
    this.#nearlyFull = Math.ceil(this.#room * NEARLY_FULL)
    this.#mostCredit = Math.max(LEAST_CREDIT, this.#room * MOST_CREDIT)
  }

  /**
   * A burst of so many packets was listed and is not released yet: true if keeps() is to be asked about each. To be
   * asked of each burst while isSharing, otherwise of full ones.
   */
  begins(listed: number): boolean {
    if (this.isSharing) {
      if (this.#left <= 0) this.#nextRound()
    } else if (this.#isOverloaded(listed)) this.#begin()
    this.#left -= listed
    this.#listed += listed
    return this.isSharing
  }

  /** Where a sender is counted, by a word that names it. */
  bucketOf(sender: number): number {
    return mixed(sender ^ this.#salt) >>> (32 - BUCKETS_LOG)
  }

  /** The same for a sender that nothing is known of. */
  strangersBucketOf(sender: number): number {
    return BUCKETS + (mixed(sender ^ this.#salt) >>> (32 - STRANGERS_LOG))
  }

  /** Whether the next packet of the burst, of the sender that is counted there, is to be kept. */
  keeps(bucket: number): boolean {
    const count = ++this.#count
    if (this.#came[bucket]!++ === 0) this.#touched[this.#touchedCount++] = bucket
    if (this.#rate < 1) {
      const gathered = this.#credit[bucket]! + (count - this.#dated[bucket]!) * this.#rate
      const credit = gathered < this.#mostCredit ? gathered : this.#mostCredit
      this.#dated[bucket] = count
      if (credit < 1) {
        this.#credit[bucket] = credit
        return false
      }
      this.#credit[bucket] = credit - 1
    }
    this.#kept++
    return true
  }

  /** Nearly full, and no emptier after twice what it can hold was taken. */
  #isOverloaded(listed: number): boolean {
    if (this.#room < BURST) return false
    this.#taken = this.#queue.holds(this.#nearlyFull) ? this.#taken + listed : 0
    return this.#taken > PATIENCE * this.#room
  }

  #begin(): void {
    this.isSharing = true
    this.overloads++
    this.#draw()
    this.#taken = 0
    this.#kept = this.#room
    this.#nextRound()
  }

  #nextRound(): void {
    const waiting = this.#waiting()
    if (waiting < this.#room / 8) this.#keepAll(waiting)
    else this.#share(waiting)
    for (let i = 0; i < this.#touchedCount; i++) this.#came[this.#touched[i]!] = 0
    this.#touchedCount = 0
    if (this.#count > DRAWN_EVERY) this.#draw()
    this.#left = waiting
    this.#listed = 0
    this.#kept = 0
  }

  /** Hardly anything waits: all of it is kept, and before long the queue is nobody's to share. */
  #keepAll(waiting: number): void {
    this.#rate = 1
    this.#affordable = Math.min(this.#room, this.#affordable * MOST_CHANGE)
    this.#taken += waiting
    if (this.#taken <= CALM * this.#room) return
    this.isSharing = false
    this.#taken = 0
  }

  /** From what the last round kept to what the next one may, in all and of each sender. */
  #share(waiting: number): void {
    this.#taken = 0
    // Of a full queue it isn't known how much has come.
    const change = waiting >= this.#room ? LEAST_CHANGE : (this.#room * FILLED) / waiting
    const kept = Math.max(FEWEST, this.#kept)
    this.#affordable = kept * Math.min(MOST_CHANGE, Math.max(LEAST_CHANGE, change))
    const share = this.#affordable / waiting
    this.#rate = share >= 1 ? 1 : this.#rateFor(share)
  }

  /** How much of each packet that comes a sender may have, so that this share of the last round's would be kept. */
  #rateFor(share: number): number {
    const listed = Math.max(1, this.#listed)
    const wanted = share * listed
    if (this.#touchedCount === 0) return share
    // Those that ask for less than the level have what they ask for; the level is what the others have each.
    let level = wanted / this.#touchedCount
    for (;;) {
      let below = 0
      let above = 0
      for (let i = 0; i < this.#touchedCount; i++) {
        const came = this.#came[this.#touched[i]!]!
        if (came <= level) below += came
        else above++
      }
      const next = above === 0 ? listed : (wanted - below) / above
      if (next <= level || above === 0) return next / listed
      level = next
    }
  }

  /** How many packets wait, those of the burst in hand included. */
  #waiting(): number {
    let least = 0
    let most = this.#queue.slots
    while (least < most) {
      const middle = (least + most + 1) >> 1
      if (this.#queue.holds(middle)) least = middle
      else most = middle - 1
    }
    return least
  }

  /** Other senders share a bucket from now on. Each has some credit: much would be a free burst for a flood. */
  #draw(): void {
    this.#salt = random32() | 0
    this.#count = 0
    this.#credit.fill(LEAST_CREDIT)
    this.#dated.fill(0)
  }
}

/** Spreads a word over all of its bits (the finaliser of MurmurHash3). */
function mixed(word: number): number {
  const once = Math.imul(word ^ (word >>> 16), 0x85ebca6b)
  const twice = Math.imul(once ^ (once >>> 13), 0xc2b2ae35)
  return twice ^ (twice >>> 16)
}
