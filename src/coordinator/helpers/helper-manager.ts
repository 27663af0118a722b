// Helpers at run time: loads, unloads and lists them, for the configuration and for the API. A user's module is tried
// in a process of its own first (helper-trial.ts), so that its faults are reported before any shard is involved. Then
// it is entered into the list in shared memory that all shards follow (helpers/helper-list.ts). If one shard fails to
// load it, it is removed from all.
//
//   load      tried, given a number, entered into the list, loaded by every shard; or all of it undone
//   unload    removed from the list, forgotten by every shard, then its expectations are ended
//   blame     a shard's thread did not come back from its code: removed from the list before the next thread begins,
//             and listed as failed, so that shards watch what it should read; then as unload
// Requests are handled one after the other; blame() acts at once. Never: a number is given again while a shard may
// still know the helper that had it before; this thread imports a user's module.
//
// Owner: the main thread, the only writer of the list.

import { MOST_HELPERS, type OnHelperFailure } from '../../helpers/declaration.ts'
import type { HelperList } from '../../helpers/helper-list.ts'
import { bindingsOf, type HelperEntry, type HelperOptions } from '../../helpers/load.ts'
import { type Blame, blameText } from '../workers/supervisor.ts'
import type { TaskEnd } from '../workers/thread-pool.ts'
import { HelperError } from './errors.ts'
import { failureText, HelperFailureCounts, helperFailureOf } from './helper-failures.ts'
import { type DeclaredHelper, tryHelper } from './helper-trial.ts'

/** Longer than it takes to replace a failed shard. */
const FOLLOWED_WITHIN_MS = 15_000

export interface HelperRequest {
  /** The name of a built-in helper, or the absolute path of a module. */
  readonly module: string
  /** The server's ports, instead of the one that the helper names. */
  readonly ports?: readonly number[] | undefined
  /** Addresses or prefixes of the servers; all servers if there are none. */
  readonly servers?: readonly string[] | undefined
  readonly options?: HelperOptions | undefined
  /** What becomes of an announcement that it can't rewrite; as the configuration says for all, if not given. */
  readonly onFailure?: OnHelperFailure | undefined
}

export interface LoadedHelper {
  readonly name: string
  readonly id: number
  readonly module: string
  readonly protocol: 'tcp' | 'udp'
  /** The server's ports; empty: every port. */
  readonly ports: readonly number[]
  readonly servers: readonly string[]
  readonly options: HelperOptions
  readonly onFailure: OnHelperFailure
  /** The classes of its expectations, with their limits for one connection. */
  readonly classes: DeclaredHelper['classes']
  /** `failed: endless loop`: it was in force until it failed so. */
  readonly state: 'in force' | `failed: ${string}`
}

export interface HelperManagerOptions {
  readonly list: HelperList
  readonly shards: number
  /** For helpers that say nothing of their own. */
  readonly onFailure: OnHelperFailure
  /** Wakes every shard, so that it reads the list. */
  wake(): void
  /** Ends the helper's expectations. */
  drop(id: number): void
}

interface Loaded {
  readonly entry: HelperEntry
  readonly shown: LoadedHelper
}

export class HelperManager {
  readonly #options: HelperManagerOptions
  #loaded: readonly Loaded[] = []
  /** By name: those that failed, until they are loaded again or unloaded. */
  readonly #failed = new Map<string, Loaded>()
  readonly #failures = new HelperFailureCounts()
  /** By number: the names of all that ever were in force; a late shard may be blamed on one that is gone. */
  readonly #nameOf = new Map<number, string>()
  /** The load that is under way: its helper's number, and what ends it if the helper fails. */
  #loading: { readonly id: number; readonly fail: (error: HelperError) => void } | undefined
  readonly #stopping = new AbortController()
  #loads = 0
  #lastId = 0
  #version = 0
  /** Settles when the requests made so far have been handled. */
  #queue: Promise<unknown> = Promise.resolve()

  constructor(options: HelperManagerOptions) {
    this.#options = options
  }

  /** Loads helpers before there are shards, which load them when they begin. Throws HelperError. */
  async begin(requests: readonly HelperRequest[]): Promise<void> {
    for (const request of requests) this.#loaded = [...this.#loaded, await this.#entryOf(request)]
    this.#publish()
  }

  /** Ends a trial that is under way. */
  stop(): void {
    this.#stopping.abort()
  }

  /** Resolves when every shard has loaded all listed helpers. Throws HelperError HELPER_SHARD. */
  async settled(): Promise<void> {
    const fault = await this.#awaitShards()
    if (fault !== undefined) throw new HelperError('HELPER_SHARD', fault)
  }

  /** Which shards could not load which helper. A replaced shard goes on without a helper whose module has vanished. */
  faults(): readonly string[] {
    const reports = Array.from({ length: this.#options.shards }, (_, shard) => this.#options.list.reportOf(shard))
    return reports.flatMap(({ fault }, shard) => (fault === '' ? [] : [`in shard ${shard}: ${fault}`]))
  }

  /** Those in force, then those that failed. */
  list(): readonly LoadedHelper[] {
    return this.#listed().map(({ shown }) => shown)
  }

  /** How often which helper has failed, by why. */
  failures(): ReturnType<HelperFailureCounts['all']> {
    return this.#failures.all()
  }

  nameOf(id: number): string | undefined {
    return this.#loaded.find(({ entry }) => entry.id === id)?.entry.name
  }

  /** Resolves when every shard reads new connections with it. If it throws HelperError, nothing has changed. */
  load(request: HelperRequest): Promise<LoadedHelper> {
    return this.#queued(async () => {
      const added = await this.#entryOf(request)
      const { id, name } = added.entry
      this.#loaded = [...this.#loaded, added]
      try {
        const failed = new Promise<never>((_, fail) => {
          this.#loading = { id, fail }
        })
        this.#publish()
        await Promise.race([this.settled(), failed])
      } catch (error) {
        this.#loaded = this.#loaded.filter((each) => each !== added)
        this.#publish()
        await this.#endExpectations(id)
        throw error
      } finally {
        this.#loading = undefined
      }
      if (this.#failed.delete(name)) this.#publish()
      return added.shown
    })
  }

  /** Resolves when no shard knows it any more. Throws HelperError HELPER_UNKNOWN. */
  unload(name: string): Promise<LoadedHelper> {
    return this.#queued(async () => {
      const going = this.#loaded.find(({ entry }) => entry.name === name)
      const failed = this.#failed.get(name)
      if (failed && !going) {
        this.#failed.delete(name)
        this.#publish()
        await this.#awaitShards()
        return failed.shown
      }
      if (!going) throw new HelperError('HELPER_UNKNOWN', `there is no helper ${name}: ${this.#names()}`)
      this.#loaded = this.#loaded.filter((each) => each !== going)
      this.#publish()
      await this.#endExpectations(going.entry.id)
      return going.shown
    })
  }

  /** Whether a helper's code runs in this shard now. The dispatcher, numbered behind the shards, has none. */
  isRunning(shard: number): boolean {
    const { list, shards } = this.#options
    return shard < shards && list.running(shard) !== undefined
  }

  /**
   * A shard's thread has ended in this way, or can't be ended. If it was in a helper's code, and this is an end that
   * comes of it, no shard loads that helper any more. Undefined if the shard itself failed.
   */
  blame(shard: number, how: TaskEnd['how']): Blame | undefined {
    const { list, shards } = this.#options
    if (shard >= shards) return undefined
    const running = list.running(shard)
    const why = helperFailureOf(how)
    list.clearRunning(shard)
    if (running === undefined || why === undefined) return undefined
    const { id, entry } = running
    const helper = this.#nameOf.get(id) ?? `number ${id}`
    this.#failures.count(helper, why)
    const blame = { helper, why: failureText(why), in: entry }
    this.#takeOut(id, blame)
    return blame
  }

  /** Takes a failed helper out of force, unless that has been done for another shard. */
  #takeOut(id: number, blame: Blame): void {
    const failed = this.#loaded.find(({ entry }) => entry.id === id)
    if (!failed) return
    this.#loaded = this.#loaded.filter((each) => each !== failed)
    const { entry, shown } = failed
    const isLoading = this.#loading?.id === id
    if (!isLoading)
      this.#failed.set(entry.name, {
        entry: { ...entry, hasFailed: true },
        shown: { ...shown, state: `failed: ${blame.why}` },
      })
    this.#publish()
    if (isLoading) this.#loading?.fail(new HelperError('HELPER_SHARD', blameText(blame)))
    else {
      this.#queued(() => this.#endExpectations(id))
    }
  }

  #queued<T>(step: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(step)
    this.#queue = done.catch(() => {})
    return done
  }

  #listed(): readonly Loaded[] {
    return [...this.#loaded, ...this.#failed.values()]
  }

  #names(): string {
    const names = this.#loaded.map(({ entry }) => entry.name)
    return names.length === 0 ? 'none is loaded' : `loaded are ${names.join(', ')}`
  }

  async #entryOf(request: HelperRequest): Promise<Loaded> {
    const { module, ports = [], servers = [], options = {}, onFailure = this.#options.onFailure } = request
    const load = ++this.#loads
    const helper = await tryHelper({ module, options, load }, this.#stopping.signal)
    const { name, tuple, classes } = helper
    if (this.#loaded.some(({ entry }) => entry.name === name))
      throw new HelperError(
        'HELPER_EXISTS',
        `there is a helper ${name} already: unload it first, or leave one of them out`,
      )
    const entry: HelperEntry = {
      id: this.#freeId(),
      name,
      module,
      options,
      bindings: bindingsOf(helper, ports, servers),
      onFailure,
      load,
    }
    const own = tuple.dstPort === undefined ? [] : [tuple.dstPort]
    const shown: LoadedHelper = {
      name,
      id: entry.id,
      module,
      protocol: tuple.proto,
      ports: ports.length > 0 ? ports : own,
      servers: servers.length > 0 || tuple.dstAddress === undefined ? servers : [tuple.dstAddress],
      options,
      onFailure,
      classes,
      state: 'in force',
    }
    this.#nameOf.set(entry.id, name)
    this.#failures.know(name)
    return { entry, shown }
  }

  /** The number that has been free the longest. */
  #freeId(): number {
    for (let step = 1; step <= MOST_HELPERS; step++) {
      const id = ((this.#lastId + step - 1) % MOST_HELPERS) + 1
      if (this.#listed().some(({ entry }) => entry.id === id)) continue
      this.#lastId = id
      return id
    }
    throw new HelperError('HELPER_LIMIT', `there are ${MOST_HELPERS} helpers: unload one first`)
  }

  #publish(): void {
    const { list, wake } = this.#options
    try {
      this.#version = list.publish(JSON.stringify(this.#listed().map(({ entry }) => entry)))
    } catch (error) {
      throw new HelperError('HELPER_LIMIT', (error as Error).message, { cause: error })
    }
    wake()
  }

  /** Waits until every shard has loaded the present list. Resolves with the first fault, undefined if there is none. */
  async #awaitShards(): Promise<string | undefined> {
    const { list, shards } = this.#options
    const version = this.#version
    const each = Array.from({ length: shards }, async (_, shard) => {
      if (!(await list.followed(shard, version, FOLLOWED_WITHIN_MS)))
        return `shard ${shard} has not followed within ${FOLLOWED_WITHIN_MS / 1000} s`
      return undefined
    })
    return (await Promise.all(each)).find((fault) => fault !== undefined) ?? this.faults()[0]
  }

  /** Ends the helper's expectations, once no shard can publish another one. */
  async #endExpectations(id: number): Promise<void> {
    await this.#awaitShards()
    this.#options.drop(id)
  }
}
