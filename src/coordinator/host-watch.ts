// What natloom has set on its host, or has presumed since its start, and somebody else may change while it runs. What
// can be set again is set again, logged and counted; of what can't, the checks of the start are asked again and their
// news logged. The table of all of it is in src/host/README.md. Main thread.
//
//   look at              how often                        by
//   nft rules            every look, and when they change  host-rules.ts
//   settings of ours     every look                        Host.lookAtSettings, PacketPorts.followQdiscs
//   interfaces           with each report of the watcher   Host.update
//   what is presumed     about every minute                host-checks/checks.ts: CHECKED_AGAIN
// Never: a part that can't be looked at keeps the others from being looked at.

import type { Logger } from 'pino'
import type { Host, Restored } from '../host/host.ts'
import type { LinkReport } from '../host/host-tables.ts'
import type { HostPart, HostSettingsState } from '../metrics/host-settings.ts'
import type { Attempts } from './attempts.ts'
import type { GatewayConfig } from './config.ts'
import { askedAgain, lookAgainAtHost, type NamedFinding } from './host-checks/checks.ts'
import { HostRules } from './host-rules.ts'
import type { QdiscChange } from './interfaces/packet-ports.ts'

const CHECK_EVERY_MS = 60_000
/** The shortest time between two checks, where the ruleset changes all the time. */
const CHECK_AGAIN_AFTER_MS = 10_000
/** The checks may take one part in so many of this thread's time: listing a large ruleset takes long. */
const SHARE = 50

export interface HostWatchOptions {
  readonly host: Pick<Host, 'lookAtRules' | 'lookAtSettings' | 'update'>
  readonly config: GatewayConfig
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>
  readonly attempts: Attempts
  /** Has the sockets honour queueing disciplines, or bypass them, as they are configured now. */
  followQdiscs(): readonly QdiscChange[]
  /** For tests: what the checks that are asked again find now. */
  readonly findings?: () => readonly NamedFinding[]
  /** Milliseconds of a monotonic clock. */
  readonly now?: () => number
}

export class HostWatch implements HostSettingsState {
  readonly rules: HostRules
  readonly restored: Record<Restored['what'], number> = { 'port-range': 0, 'pool-route': 0, 'state-file': 0 }
  readonly #options: HostWatchOptions
  readonly #now: () => number
  /** By `check what`. */
  #findings = new Map<string, NamedFinding>()
  /** As JSON: which interfaces there were, and what those that were renamed are called. */
  #links: string | undefined
  #nextCheckAt: number
  /** Not before, also if the ruleset changes. */
  #mayCheckAt = Number.NEGATIVE_INFINITY

  constructor(options: HostWatchOptions) {
    this.rules = new HostRules(options.host, options.log)
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
    this.#nextCheckAt = this.#now() + CHECK_EVERY_MS
  }

  get findings(): readonly NamedFinding[] {
    return [...this.#findings.values()]
  }

  /** How much of a part of the host can't be looked at or followed now. */
  failing(part: HostPart): number {
    const blind =
      part === 'checks' ? new Set(this.findings.filter((each) => each.couldNotLook).map(({ check }) => check)) : []
    return this.#options.attempts.failing(part) + [...blind].length
  }

  /** What the checks of the start have found. */
  begin(findings: readonly NamedFinding[]): void {
    this.#findings = byText(askedAgain(findings))
    // What a killed natloom has left is taken over by this start.
    for (const finding of findings) if (finding.check !== 'state-file') this.#warn(finding)
  }

  /**
   * Has the rules follow interfaces that were renamed, made anew or removed: natloom serves one that was renamed no
   * more, and the kernel must not forward what comes by it. Host.apply has read what there is at the first report.
   * Throws what Host.update throws.
   */
  followLinks(links: readonly LinkReport[]): void {
    const text = JSON.stringify(links.map(({ index, renamedTo }) => [index, renamedTo]))
    if (this.#links !== undefined && text !== this.#links) this.#options.host.update()
    this.#links = text
  }

  /** To be called every few seconds. */
  look(): void {
    this.#attempt('rules', 'the nft rules', () => this.rules.look())
    this.#attempt('settings', 'port range, pool routes and state file', () => this.#settings())
    this.#attempt('qdiscs', 'queueing disciplines', () => this.#qdiscs())
    if (this.#now() >= this.#nextCheckAt)
      this.#attempt('checks', 'what else the start has checked', () => this.#check())
  }

  /** Another program has changed the ruleset: also the kernel's NAT and forward chains may be others now. */
  rulesetChanged(by: string): void {
    this.#attempt('rules', 'the nft rules', () => this.rules.look(by))
    this.#nextCheckAt = this.#mayCheckAt
  }

  #settings(): void {
    for (const { what, was } of this.#options.host.lookAtSettings()) {
      this.restored[what]++
      this.#options.log.warn({ what, was }, 'somebody has changed what natloom has set on this host: set again')
    }
  }

  #qdiscs(): void {
    for (const { name, kind, bypass } of this.#options.followQdiscs())
      this.#options.log.info(
        { interface: name, ...(kind !== undefined && { kind }) },
        bypass
          ? 'no queueing discipline is configured any more: bypassed from now on'
          : 'a queueing discipline was configured: honoured from now on',
      )
  }

  #check(): void {
    const began = this.#now()
    const { config, findings = () => lookAgainAtHost(config) } = this.#options
    const seen = findings()
    const notSeen = new Set(seen.flatMap(({ check, couldNotLook }) => (couldNotLook ? [check] : [])))
    const kept = [...this.#findings.values()].filter((old) => notSeen.has(old.check) && !old.couldNotLook)
    const found = byText([...kept, ...seen])
    for (const [text, finding] of found) if (!this.#findings.has(text)) this.#warn(finding)
    for (const [text, { check, what }] of this.#findings)
      if (!found.has(text)) this.#options.log.info({ check, what }, 'this is so no longer')
    this.#findings = found
    const ended = this.#now()
    this.#mayCheckAt = ended + Math.max(CHECK_AGAIN_AFTER_MS, (ended - began) * SHARE)
    this.#nextCheckAt = Math.max(this.#mayCheckAt, ended + CHECK_EVERY_MS)
  }

  #warn({ check, what, mend }: NamedFinding): void {
    this.#options.log.warn({ check, mend }, what)
  }

  #attempt(part: HostPart, what: string, act: () => void): void {
    this.#options.attempts.take({ fault: `${what} could not be looked at`, part, act })
  }
}

const byText = (findings: readonly NamedFinding[]): Map<string, NamedFinding> =>
  new Map(findings.map((finding) => [`${finding.check} ${finding.what}`, finding]))
