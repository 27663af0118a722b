// Senders that are known to have an established connection, and whose it is: of an inside host its address, from
// outside the external endpoint that the packet goes to, or where no port shows it, the addresses. So an established
// flow from outside counts as its inside host's, and a flood from made-up addresses, or to ports that nobody has, has
// together no more than a few hosts (shares.ts).
//
// It is learned from the packets that are kept in an overload, and from no others: by then there are enough of them to
// learn everybody who sends within some thousandths of a second. A cache: a sender has one cell that it can be in, a
// newer one takes it, and who has lost his is one of the strangers until he is learned again. Owner: this thread.

import type { Side } from '../../conntrack/terms.ts'
import type { Addr } from '../../wire/address.ts'

/** Cells of each side. */
const CELLS_LOG = 16
const senders = new Int32Array(2 << CELLS_LOG)
const hosts = new Int32Array(2 << CELLS_LOG)

const cellOf = (side: Side, sender: number): number =>
  (side << CELLS_LOG) | (Math.imul(sender ^ (sender >>> 15), 0x9e3779b1) >>> (32 - CELLS_LOG))

/** The inside host of a sender, 0 if it isn't known. */
export function hostOf(side: Side, sender: number): Addr {
  const cell = cellOf(side, sender)
  return senders[cell] === sender ? hosts[cell]! : 0
}

export function remember(side: Side, sender: number, host: Addr): void {
  const cell = cellOf(side, sender)
  senders[cell] = sender
  hosts[cell] = host
}

export function forgetHosts(): void {
  senders.fill(0)
  hosts.fill(0)
}
