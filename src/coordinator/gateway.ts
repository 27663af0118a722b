// The gateway: everything that `natloom run` makes, in the order in which it is made, and undone in the reverse order.
// Main thread. Owner of all threads, sockets, shared memory, and of what is changed on the host.
//
//   step                      made of                              afterwards
//   checks of the host        host-checks/checks.ts                most of them by host-watch.ts
//   memory                    memory.ts
//   expectations              expectations/expectation-gc.ts       ended and repaired every second
//   limits of hosts           hosts/host-gc.ts                     looked at every second
//   helpers                   helpers/helper-manager.ts            loaded and unloaded by the API
//   netlink watcher           workers/netlink-thread.ts            reports interfaces, which link-follower.ts follows
//   sockets and rings         interfaces/packet-ports.ts           bound again to an interface that is back
//   kernel dispatch           interfaces/kernel-dispatch.ts        follows leases
//   port range, rules         host/host.ts                         follow addresses and contested ports
//                             host-watch.ts                        made and set again if somebody changes them
//   addresses and leases      leases/external-addresses.ts         follow the outside address
//   the host's sockets        leases/host-sockets.ts               looked at about every second
//   leases on request         leases/block-leases.ts               lent when a shard asks; returned every 10 s
//   shards                    workers/shards.ts                    replaced if they fail, up to a limit
//   API, metrics              services.ts
// Packets are hidden from the kernel before a shard may translate them, and the kernel gets them back after the last
// shard has ended.

import type { Logger } from 'pino'
import { reasonOf } from '../host/errors.ts'
import type { HostFacts } from '../host/facts.ts'
import { Host } from '../host/host.ts'
import type { LinkReport } from '../host/host-tables.ts'
import { waysOfOwning } from '../host/rule-tables.ts'
import { parseFaults } from '../io/fault-plan.ts'
import { close, eventfd } from '../io/syscalls.ts'
import type { HostPart } from '../metrics/host-settings.ts'
import type { PortForward } from '../nat/port-forward-rules.ts'
import { ownerPrograms } from '../ownership/ownership-bpf.ts'
import { staticRules } from '../ownership/ownership-rule.ts'
import { type Addr, formatAddress } from '../wire/address.ts'
import { poolAddresses } from './address-range.ts'
import { Attempts } from './attempts.ts'
import { type GatewayConfig, hostPortRange } from './config.ts'
import { type ExpectationGc, expectationGcOf } from './expectations/expectation-gc.ts'
import { GatewayHealth } from './health.ts'
import { HelperManager } from './helpers/helper-manager.ts'
import { factsFor, findingsAtStart, prerequisites, refuseErrors } from './host-checks/checks.ts'
import { HostWatch } from './host-watch.ts'
import { lookAtHosts } from './hosts/host-gc.ts'
import { KernelDispatch } from './interfaces/kernel-dispatch.ts'
import { LinkFollower } from './interfaces/link-follower.ts'
import { linkChanges } from './interfaces/links.ts'
import { PacketPorts, type PacketPortsOptions } from './interfaces/packet-ports.ts'
import { BlockLeases, requestsIn } from './leases/block-leases.ts'
import { ExternalAddresses } from './leases/external-addresses.ts'
import { HostSockets, type NatPorts } from './leases/host-sockets.ts'
import { allocateMemory, type GatewayMemory } from './memory.ts'
import { parsePortForward } from './port-forwards.ts'
import { serveApi, serveMetrics } from './services.ts'
import { StoppableStart } from './stoppable-start.ts'
import { type Problem, UndoStack } from './undo-stack.ts'
import { Doorbell } from './workers/doorbell.ts'
import { EXIT_GATEWAY_FAILED, type ThreadError } from './workers/errors.ts'
import { NetlinkThread } from './workers/netlink-thread.ts'
import { RestartLimit } from './workers/restart-limit.ts'
import { Shards, type ShardsOptions } from './workers/shards.ts'
import { type WorkersLog, workersLog } from './workers/workers-log.ts'

const LOOK_AT_HOST_EVERY_MS = 3000
const LOOK_AT_SOCKETS_EVERY_MS = 1000
const RETURN_BLOCKS_EVERY_MS = 10_000
const LOOK_AT_TABLES_EVERY_MS = 1000
/** Their last turns (coordinator/workers/supervisor.ts), and as long again to terminate the threads that don't end. */
const SHARDS_END_WITHIN_MS = 5000

export class Gateway {
  /**
   * Resolves once every shard forwards. If it rejects, everything is undone: HostError, AfPacketError, HelperError,
   * ApiError, MetricsError, GatewayError, ThreadError, or what a refused system call throws.
   */
  readonly started: Promise<Gateway>
  /** Resolves with an exit code after a failure that the gateway can't go on from, once everything is undone. */
  readonly done: Promise<number>
  #metricsUrl = ''
  readonly #config: GatewayConfig
  readonly #log: Logger
  /** Interface names by port number: inside ones first. */
  readonly #interfaces: readonly string[]
  readonly #pool: readonly Addr[]
  readonly #portForwards: readonly PortForward[]
  readonly #host: Host
  readonly #hostWatch: HostWatch
  readonly #attempts: Attempts
  readonly #undo = new UndoStack()
  readonly health: GatewayHealth
  #end: (exitCode: number) => void = () => {}
  readonly #starting = new StoppableStart()
  #stopped: Promise<readonly Problem[]> | undefined
  /** The watcher's last report, by port number. */
  #links: readonly LinkReport[] = []
  #packetPorts: PacketPorts | undefined
  #externalAddresses: ExternalAddresses | undefined
  #linkFollower: LinkFollower | undefined
  #shards: Shards | undefined
  #kernelDispatch: KernelDispatch | undefined
  #isRunning = false
  #failure: ThreadError | undefined

  /** Begins to start it: from now on `started` says what came of it, and `stop` undoes it. */
  constructor(config: GatewayConfig, log: Logger) {
    const { name, inside, outside, nat, statePath } = config
    this.#config = config
    this.#log = log
    this.#interfaces = [...inside, ...outside]
    this.#pool = poolAddresses(nat.pool)
    this.#portForwards = config.forward.map(parsePortForward)
    this.#host = new Host({
      name,
      inside,
      outside,
      shared: [],
      pool: this.#pool,
      natPorts: nat.ports,
      protocols: nat.protocols,
      forwarded: this.#portForwards,
      hostPortRange: hostPortRange(config),
      statePath,
      waysOfOwning: waysOfOwning(config.labRules),
    })
    this.#attempts = new Attempts(log)
    this.#hostWatch = new HostWatch({
      host: this.#host,
      log,
      attempts: this.#attempts,
      config,
      followQdiscs: () => this.#packetPorts?.followQdiscs(this.#links) ?? [],
    })
    this.health = new GatewayHealth({
      shards: config.workers,
      notTurning: () => this.#shards?.notTurning() ?? [],
      externalAddresses: () => this.#externalAddresses?.count ?? 0,
      links: () => this.#links,
    })
    this.health.add(() => this.#hostWatch.rules.faults())
    this.health.add(() => this.#attempts.faults())
    this.done = new Promise((resolve) => {
      this.#end = resolve
    })
    this.started = this.#starting
      .run(() => this.#start())
      .then(
        () => this,
        async (error) => {
          await this.stop(`could not start: ${reasonOf(error)}`)
          throw error
        },
      )
  }

  get metricsUrl(): string {
    return this.#metricsUrl
  }

  /**
   * Undoes everything, within the sum of the steps' deadlines, and gives up the start if it is under way. Resolves with
   * what could not be undone, which is logged. May be called again.
   */
  stop(reason: string): Promise<readonly Problem[]> {
    this.#stopped ??= this.#undoAll(reason)
    return this.#stopped
  }

  async #start(): Promise<void> {
    const { labFaults, api, metrics } = this.#config
    const startedAt = monotonicMs()
    const clock = () => Math.floor((monotonicMs() - startedAt) / 1000)
    const faults = labFaults === undefined ? undefined : parseFaults(labFaults)
    const host = factsFor(this.#config)
    refuseErrors(prerequisites(this.#config, host))
    if (this.#host.prepare()) this.#log.warn('taking over what a killed natloom left behind')
    this.#undo.push('rules, port range and routes of the host', () => this.#restoreHost())
    this.#checkHost(host)
    const memory = allocateMemory(this.#config)
    const expectationGc = this.#startExpectationGc(memory, clock)
    this.#every(LOOK_AT_TABLES_EVERY_MS, 'looking at hosts', lookAtHosts(memory, clock, this.#log))
    const helpers = await this.#starting.unlessStopped(this.#loadHelpers(memory, expectationGc))
    const watcherFd = this.#eventfd()
    const wakeFds = memory.shards.map(() => this.#eventfd())
    await this.#starting.unlessStopped(this.#watch(memory, watcherFd, wakeFds))
    const dispatcherWakeFd = memory.dispatcher && this.#eventfd()
    const packetPorts = this.#openPacketPorts(memory, {
      wakeFds,
      dispatcherWakeFd,
      sharedBytes: memory.sharedPacketMemory,
    })
    this.#startKernelDispatch(memory, packetPorts)
    this.#host.apply()
    this.#every(LOOK_AT_HOST_EVERY_MS, 'looking at the host', () => this.#hostWatch.look())
    const natPorts = { externals: memory.externals, ports: this.#config.nat.ports, portForwards: this.#portForwards }
    const hostPorts = new HostSockets({ ...natPorts, host: this.#host, log: this.#log })
    const externalAddresses = this.#openExternalAddresses(natPorts, hostPorts)
    this.#startLinkFollower(packetPorts, externalAddresses)
    this.#startBlockLeases(memory)
    const shards = this.#startShards(helpers, {
      gone: (worker) => expectationGc.reclaim(worker),
      blame: (worker, how) => helpers.blame(worker, how),
      isInHelper: (worker) => helpers.isRunning(worker),
      memory,
      packetRings: packetPorts.rings,
      dispatcherRings: packetPorts.dispatcherRings,
      watcherFd,
      startedAt,
      faults,
    })
    await this.#starting.unlessStopped(shards.forwarding())
    await this.#starting.unlessStopped(helpers.settled())
    const apiServer = await serveApi(api.socket, { memory, helpers, clock })
    this.#undo.push('the API', () => apiServer.close())
    const parts = { memory, shards, expectationGc, helpers, hostWatch: this.#hostWatch, hostPorts }
    const metricsServer = await serveMetrics(metrics.listen, { ...parts, health: () => this.health.now() })
    this.#undo.push('the metrics server', () => metricsServer.close())
    this.#metricsUrl = metricsServer.url
    if (this.#failure) throw this.#failure
    this.#isRunning = true
  }

  /** Throws GatewayError for what would make a gateway harmful or useless on this host; logs what may surprise. */
  #checkHost(host: HostFacts): void {
    const findings = findingsAtStart(this.#config, host)
    refuseErrors(findings)
    this.#hostWatch.begin(findings)
  }

  #startExpectationGc(memory: GatewayMemory, clock: () => number): ExpectationGc {
    const expectationGc = expectationGcOf(memory, clock)
    this.#every(LOOK_AT_TABLES_EVERY_MS, 'looking at expectations', () => expectationGc.look())
    return expectationGc
  }

  /** A helper that can't be loaded ends the start before anything is changed on the host. */
  async #loadHelpers({ helperList }: GatewayMemory, expectationGc: ExpectationGc): Promise<HelperManager> {
    const helpers = new HelperManager({
      list: helperList,
      shards: this.#config.workers,
      onFailure: this.#config.onHelperFailure,
      wake: () => this.#shards?.wakeAll(),
      drop: (id) => expectationGc.dropHelper(id),
    })
    this.#undo.push('a helper’s trial', () => helpers.stop())
    await helpers.begin(this.#config.helpers)
    return helpers
  }

  #eventfd(): number {
    const fd = eventfd()
    this.#undo.push('an eventfd', () => close(fd), { frees: true })
    return fd
  }

  async #watch(memory: GatewayMemory, wakeFd: number, shardFds: readonly number[]): Promise<void> {
    const { buffer, options } = memory.fib
    const thread = new NetlinkThread({
      fib: { buffer, options },
      ports: this.#interfaces,
      rulesPort: this.#host.rulesPort,
      wakeFd,
      shardFds,
      changed: (links) => this.#follow(links),
      overflow: (message) => this.#log.error(message),
      rulesetChanged: (by) => this.#hostWatch.rulesetChanged(by),
      failed: (error) => this.#fail(error),
    })
    this.#undo.push('the netlink watcher', () => thread.stop())
    await thread.started
  }

  #openPacketPorts({ settings }: GatewayMemory, options: PacketPortsOptions): PacketPorts {
    const packetPorts = new PacketPorts(this.#config, settings[0]!.sides, this.#links, options)
    this.#undo.push('sockets and receive rings', () => packetPorts.close(), { frees: true })
    this.#packetPorts = packetPorts
    return packetPorts
  }

  /** Not needed if a thread dispatches, nor with one shard. */
  #startKernelDispatch({ externals, settings }: GatewayMemory, packetPorts: PacketPorts): void {
    const { dispatch, workers } = this.#config
    if (dispatch === 'thread' || workers === 1) return
    const leases = { shards: workers, key: settings[0]!.ownerKey, externals }
    const programOf = ownerPrograms(leases, staticRules(settings[0]!.portForwards))
    const kernel = new KernelDispatch({
      version: () => externals.version(),
      replace: () => packetPorts.setDispatch(programOf),
      failed: (error) => this.#log.error({ err: error }, 'the kernel refused a dispatch program, will be tried again'),
    })
    this.#undo.push('following the leases', () => kernel.stop())
    this.#kernelDispatch = kernel
    // The sockets receive nothing before the first program is set, so it is set even if nothing is leased yet.
    kernel.follow()
  }

  #openExternalAddresses(options: NatPorts, sockets: HostSockets): ExternalAddresses {
    const addresses = new ExternalAddresses({
      ...options,
      shards: this.#config.workers,
      pool: this.#pool,
      followSockets: (entry) => sockets.follow(entry),
      hide: (shared) => this.#host.update({ shared }),
      changed: () => this.#leasesChanged(),
      announce: (shared) => this.#logAddress(shared),
    })
    this.#every(LOOK_AT_SOCKETS_EVERY_MS, 'following the host’s sockets', () => sockets.look(), 'ports')
    this.#externalAddresses = addresses
    return addresses
  }

  #startBlockLeases({ externals, control }: GatewayMemory): void {
    const leases = new BlockLeases({
      externals,
      requests: requestsIn(externals),
      shards: this.#config.workers,
      changed: () => this.#leasesChanged(),
      wake: (shard) => this.#shards?.wake(shard),
    })
    const lend = { fault: 'lending port blocks failed', act: () => leases.serve() }
    const doorbell = new Doorbell(control.words, () => this.#attempts.take(lend))
    this.#undo.push('lending port blocks', () => doorbell.stop())
    this.#every(RETURN_BLOCKS_EVERY_MS, 'returning port blocks', () => leases.returnIdle())
  }

  #leasesChanged(): void {
    this.#kernelDispatch?.follow()
    this.#shards?.wakeAll()
  }

  #startShards(helpers: HelperManager, options: Omit<ShardsOptions, 'limit' | 'failed' | keyof WorkersLog>): Shards {
    const shards = new Shards({
      ...options,
      ...workersLog(this.#log, helpers),
      limit: new RestartLimit(this.#config.supervision, () => performance.now()),
      failed: (error) => this.#fail(error),
    })
    this.#undo.push('shards', () => shards.stop(), { withinMs: SHARDS_END_WITHIN_MS })
    this.#shards = shards
    return shards
  }

  /** The watcher's report: interfaces that came, went or are back, and their addresses. */
  #follow(links: readonly LinkReport[]): void {
    if (this.#stopped) return
    for (const { level, what, ...where } of linkChanges(this.#links, links)) this.#log[level](where, what)
    this.#links = links
    this.#linkFollower?.follow(links)
  }

  /** Has rules, addresses and sockets follow the last report, and those to come. Throws what host/ and io/ throw. */
  #startLinkFollower(packetPorts: PacketPorts, externalAddresses: ExternalAddresses): void {
    const follower = new LinkFollower({
      attempts: this.#attempts,
      links: this.#links,
      inside: this.#config.inside.length,
      followRules: (links) => this.#hostWatch.followLinks(links),
      followAddress: (address, renewed) => externalAddresses.follow(address, renewed),
      bind: (port, link) => packetPorts.follow(port, link),
    })
    this.#undo.push('following the interfaces', () => follower.stop())
    follower.begin()
    this.#linkFollower = follower
  }

  #logAddress(shared: Addr | undefined): void {
    if (shared !== undefined) this.#log.info({ address: formatAddress(shared) }, 'translating to the outside address')
    else this.#log.warn({ outside: this.#config.outside }, 'no outside address: waiting for one, nothing is translated')
  }

  /** Repeats a step until everything is undone. If it fails, it is tried again at the next round. */
  #every(milliseconds: number, what: string, act: () => void, part?: HostPart): void {
    const step = { fault: `${what} failed`, act, ...(part && { part }) }
    const timer = setInterval(() => this.#attempts.take(step), milliseconds)
    this.#undo.push(what, () => clearInterval(timer))
  }

  /** Ends the gateway. While it starts, the start throws the failure instead. */
  #fail(error: ThreadError): void {
    this.#failure ??= error
    if (!this.#isRunning || this.#stopped) return
    this.#log.fatal(error.message)
    this.stop(error.message).then(() => this.#end(EXIT_GATEWAY_FAILED))
  }

  async #undoAll(reason: string): Promise<readonly Problem[]> {
    this.#log.debug({ reason }, 'taking everything back')
    await this.#starting.giveUp()
    const problems = await this.#undo.unwind()
    for (const { what, error } of problems) this.#log.error({ err: error }, `${what}: not taken back`)
    return problems
  }

  #restoreHost(): void {
    const problems = this.#host.end()
    if (problems.length > 0) throw new Error(problems.join('; '))
  }
}

/** Of the machine's monotonic clock; the shards' one begins with the start. */
const monotonicMs = (): number => Number(process.hrtime.bigint() / 1_000_000n)
