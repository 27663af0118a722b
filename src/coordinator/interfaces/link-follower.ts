// What has to follow the interfaces of the gateway when they come, go, are renamed or change their addresses: rules,
// the external address, packet sockets. Each report of the netlink watcher is followed at once and step by step; a step
// that fails keeps no other from being taken, and all are taken again, at growing intervals, until everything is in
// line with the last report. Main thread. Owner: the only caller of HostWatch.followLinks, ExternalAddresses.follow
// and PacketPorts.follow.
//
//   step, in this order                 by                             has to be taken
//   the rules of interfaces             host-watch.ts                  when one was renamed or made anew
//   the external address and its rules  leases/external-addresses.ts   when it has changed, or one was made anew
//   the sockets of each interface       packet-ports.ts                when it was made anew
// Rules come first: the kernel must not forward what an interface brings before it is hidden from it.

import type { LinkReport } from '../../host/host-tables.ts'
import type { Addr } from '../../wire/address.ts'
import type { Attempts, Step } from '../attempts.ts'
import { firstAddress } from './links.ts'
import { NODE_TIMERS, type Timers } from './throttle.ts'

/** Between two attempts: doubled each time, up to the longest. What ends a failure is followed that much later. */
const FIRST_RETRY_MS = 1000
const LONGEST_RETRY_MS = 16_000

export interface LinkFollowerOptions {
  readonly attempts: Attempts
  /** By port number, inside ones first: as they were when sockets, rules and routes were made. */
  readonly links: readonly LinkReport[]
  /** How many of them are inside. */
  readonly inside: number
  /** Has the rules hide from the kernel what comes by interfaces that were renamed or made anew. */
  followRules(links: readonly LinkReport[]): void
  /** Takes the outside interface's address; `renewed`: an interface was made anew, and lacks its rules and routes. */
  followAddress(address: Addr | undefined, renewed: boolean): void
  /** Binds the sockets of a port to the interface if it was made anew. */
  bind(port: number, link: LinkReport): void
  readonly timers?: Timers
}

export class LinkFollower {
  readonly #options: LinkFollowerOptions
  readonly #timers: Timers
  #links: readonly LinkReport[]
  /** By port number: the index of the interface that rules and routes were made for, 0 if it has gone since. */
  #madeFor: readonly number[]
  #cancel: (() => void) | undefined
  #isStopped = false

  constructor(options: LinkFollowerOptions) {
    this.#options = options
    this.#timers = options.timers ?? NODE_TIMERS
    this.#links = options.links
    this.#madeFor = options.links.map(indexOf)
  }

  /** For the start, which ends with the first step that fails: it throws what that step throws. */
  begin(): void {
    for (const { act } of this.#steps()) act()
  }

  /** The watcher's report. */
  follow(links: readonly LinkReport[]): void {
    this.#links = links
    // With its interface go routes and sockets, also if it comes back under the same index. A renamed one keeps them.
    this.#madeFor = this.#madeFor.map((index, port) => (isGone(links[port]!) ? 0 : index))
    this.#takeSteps(FIRST_RETRY_MS)
  }

  /** No more attempts. */
  stop(): void {
    this.#isStopped = true
    this.#cancel?.()
  }

  #takeSteps(retryMs: number): void {
    this.#cancel?.()
    this.#cancel = undefined
    if (this.#isStopped) return
    const failed = this.#steps().filter((step) => !this.#options.attempts.take(step))
    if (failed.length === 0) return
    const next = Math.min(retryMs * 2, LONGEST_RETRY_MS)
    this.#cancel = this.#timers.after(retryMs, () => this.#takeSteps(next))
  }

  #steps(): Step[] {
    const { followRules, bind } = this.#options
    const links = this.#links
    return [
      { fault: 'the nft rules could not follow the interfaces', part: 'rules', act: () => followRules(links) },
      {
        fault: 'the outside address and its rules could not be brought into force',
        part: 'addresses',
        act: () => this.#followAddress(),
      },
      ...links.map((link, port) => ({
        fault: `the packet sockets could not be bound to interface ${link.name} again`,
        part: 'packet-sockets' as const,
        act: () => bind(port, link),
      })),
    ]
  }

  #followAddress(): void {
    const { inside, followAddress } = this.#options
    const indices = this.#links.map(indexOf)
    const renewed = indices.some((index, port) => index !== 0 && index !== this.#madeFor[port])
    followAddress(firstAddress(this.#links.slice(inside)), renewed)
    this.#madeFor = this.#madeFor.map((index, port) => indices[port] || index)
  }
}

const indexOf = ({ present, index }: LinkReport): number => (present ? index : 0)

const isGone = ({ present, renamedTo }: LinkReport): boolean => !present && renamedTo === undefined
