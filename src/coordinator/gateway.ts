// The gateway: everything that `natloom run` makes, in the order in which it is made, and taken back in the reverse.
// Main thread. Owner of all threads, sockets, shared memory, and of what is changed on the host.
//
//   step                      made of                     when it changes
//   rights, interfaces        host/rights, host/watcher   checked once
//   memory                    memory.ts
//   helpers                   helper-manager.ts              loaded and unloaded by the API
//   netlink watcher           netlink-thread.ts           tells of interfaces and addresses: #follow
//   sockets and rings         packet-ports.ts             bound again to an interface that is back; kernel-dispatch.ts
//   rules, port range         host/host.ts                follow interfaces, addresses and the host's sockets
//   addresses and leases      external-addresses.ts       follow the outside interface's address; every 10 s
//   block leases                block-leases.ts               lends port blocks to shards that ask; every 10 s
//   expectation gc        expectation-gc.ts       ends what is over, settles what a failed shard held; every second
//   shards                    shards.ts                   one that fails is replaced, too many end the gateway
//   API                       api.ts
//   metrics                   metrics/server.ts
// A packet is hidden from the kernel before a shard may translate it, and the kernel has it back after the last shard
// has ended.

import { endianness } from 'node:os'
import type { Logger } from 'pino'
import { reasonOf } from '../host/errors.ts'
import { Host } from '../host/host.ts'
import type { LinkReport } from '../host/host-tables.ts'
import { portsInUse } from '../host/sockets.ts'
import { readHost } from '../host/watcher.ts'
import { parseFaults } from '../io/fault-plan.ts'
import { close, eventfd } from '../io/syscalls.ts'
import { type CountedWorker, createRegistry } from '../metrics/registry.ts'
import { type Health, MetricsServer } from '../metrics/server.ts'
import type { PortForward } from '../nat/port-forwards.shard.ts'
import { ownerProgram } from '../ownership/ownership-bpf.ts'
import { staticRules } from '../ownership/ownership-rule.ts'
import type { Addr } from '../wire/address.ts'
import { formatAddress } from '../wire/address.ts'
import { poolAddresses } from './address-range.ts'
import { ApiServer } from './api/api.ts'
import { connectionList } from './api/connection-list.ts'
import { expectationList } from './api/expectation-list.ts'
import type { GatewayConfig } from './config.ts'
import { EXIT_GATEWAY_FAILED, GatewayError } from './errors.ts'
import { type ExpectationGc, keeperOf } from './expectations/expectation-gc.ts'
import { HelperManager } from './helpers/helper-manager.ts'
import { KernelDispatch } from './interfaces/kernel-dispatch.ts'
import { linkChanges } from './interfaces/link-changes.ts'
import { checkInterfaces, PacketPorts, type PacketPortsOptions } from './interfaces/packet-ports.ts'
import { BlockLeases } from './leases/block-leases.ts'
import { ExternalAddresses } from './leases/external-addresses.ts'
import { allocateMemory, type GatewayMemory } from './memory.ts'
import { forwardText, parseForward } from './port-forwards.ts'
import { UndoStack } from './undo-stack.ts'
import { Doorbell } from './workers/doorbell.ts'
import { NetlinkThread } from './workers/netlink-thread.ts'
import { RestartLimit } from './workers/restarts.ts'
import { Shards, type ShardsOptions } from './workers/shards.ts'

const LOOK_AT_SOCKETS_EVERY_MS = 10_000
const BRING_HOME_EVERY_MS = 10_000
const LOOK_AT_EXPECTATIONS_EVERY_MS = 1000
const HIGHEST_PORT = 65535

export class Gateway {
  /** Resolves with an exit code after a failure that the gateway can't go on from, when everything is taken back. */
  readonly done: Promise<number>
  #metricsUrl = ''
  readonly #config: GatewayConfig
  readonly #log: Logger
  /** Port numbers are indices: inside ones first. */
  readonly #names: readonly string[]
  readonly #pool: readonly Addr[]
  readonly #forwards: readonly PortForward[]
  readonly #host: Host
  readonly #undo = new UndoStack()
  #end: (exitCode: number) => void = () => {}
  #stopped: Promise<void> | undefined
  #links: readonly LinkReport[] = []
  #ports: PacketPorts | undefined
  #addresses: ExternalAddresses | undefined
  #shards: Shards | undefined
  #dispatch: KernelDispatch | undefined
  #isRunning = false
  #failure: GatewayError | undefined

  private constructor(config: GatewayConfig, log: Logger) {
    const { inside, outside, nat, statePath } = config
    this.#config = config
    this.#log = log
    this.#names = [...inside, ...outside]
    this.#pool = poolAddresses(nat.pool)
    this.#forwards = config.forward.map(parseForward)
    this.#host = new Host({
      inside,
      outside,
      shared: [],
      pool: this.#pool,
      natPorts: nat.ports,
      protocols: nat.protocols,
      forwarded: this.#forwards,
      hostPortRange: this.#isShared ? { from: nat.ports.to + 1, to: HIGHEST_PORT } : null,
      statePath,
    })
    this.done = new Promise((resolve) => {
      this.#end = resolve
    })
  }

  /**
   * Resolves once every shard forwards. Throws HostError, AfPacketError, ApiError, MetricsError, GatewayError, or what a refused
   * system call throws, and has taken everything back then.
   */
  static async start(config: GatewayConfig, log: Logger): Promise<Gateway> {
    const gateway = new Gateway(config, log)
    try {
      await gateway.#start()
    } catch (error) {
      await gateway.stop(`could not start: ${reasonOf(error)}`)
      throw error
    }
    return gateway
  }

  get metricsUrl(): string {
    return this.#metricsUrl
  }

  /** Takes everything back; what can't be is logged. May be called again. */
  stop(reason: string): Promise<void> {
    this.#stopped ??= this.#takeEverythingBack(reason)
    return this.#stopped
  }

  get #isShared(): boolean {
    return this.#config.nat.pool.length === 0
  }

  async #start(): Promise<void> {
    const startedAt = Number(process.hrtime.bigint() / 1_000_000n)
    const { labFaults } = this.#config
    const faults = labFaults === undefined ? undefined : parseFaults(labFaults)
    if (this.#host.prepare()) this.#log.warn('taking over what a killed natloom left behind')
    this.#undo.add('rules, port range and routes of the host', () => this.#takeHostBack())
    checkByteOrder()
    checkInterfaces(readHost(this.#names))
    this.#refuseKernelNat()
    const memory = allocateMemory(this.#config)
    const expectationGc = this.#keepExpectations(memory, startedAt)
    const helpers = await this.#openHelperDesk(memory, expectationGc)
    const watcherFd = this.#eventfd()
    const wakeFds = memory.shards.map(() => this.#eventfd())
    await this.#watch(memory, watcherFd, wakeFds)
    this.#refuseServedForwards()
    const dispatcherWakeFd = memory.dispatcher && this.#eventfd()
    const ports = this.#openPorts(memory, { wakeFds, dispatcherWakeFd, sharedBytes: memory.sharedPacketMemory })
    this.#openDispatch(memory, ports)
    this.#host.apply()
    this.#addresses = this.#openAddresses(memory)
    this.#bringInLine()
    if (this.#addresses.count === 0) this.#logAddress()
    this.#openBlockLeases(memory)
    const shards = await this.#startShards(helpers, {
      gone: (worker) => expectationGc.reclaim(worker),
      memory,
      packetRings: ports.rings,
      dispatcherRings: ports.dispatcherRings,
      watcherFd,
      startedAt,
      faults,
    })
    await helpers.settled()
    await this.#serveApi(memory, helpers, startedAt)
    await this.#serveMetrics(memory, shards, expectationGc)
    if (this.#failure) throw this.#failure
    this.#isRunning = true
  }

  #refuseKernelNat(): void {
    if (!this.#isShared || this.#config.nat.sharedWithKernelNat) return
    const rules = this.#host.kernelNat()
    if (rules.length === 0) return
    const { from, to } = this.#config.nat.ports
    const list = rules.map(({ chain, handle, statement }) => `  ${chain}, handle ${handle}: ${statement}`)
    throw new GatewayError(
      'GATEWAY_KERNEL_NAT',
      [
        `the kernel itself translates what leaves by ${this.#config.outside.join(', ')}, and may take ports ` +
          `${from}-${to}, which are natloom's:`,
        ...list,
        `give these rules other ports (masquerade to :${to + 1}-${HIGHEST_PORT}), remove them, or say ` +
          'nat.sharedWithKernelNat: true if they do no harm',
      ].join('\n'),
    )
  }

  /** What the host listens on can't be forwarded: its server would never hear anything again. */
  #refuseServedForwards(): void {
    if (!this.#isShared) return
    const address = this.#outsideAddress()
    const served = this.#forwards.filter(({ protocol, port }) => {
      const range = { from: port, to: port }
      return portsInUse(address === undefined ? [] : [address], range, [protocol]).has(port)
    })
    if (served.length === 0) return
    throw new GatewayError(
      'GATEWAY_FORWARD',
      [
        'the host itself has sockets on ports that are to be forwarded:',
        ...served.map((forward) => `  ${forwardText(forward)}`),
        'stop that server or bind it to an inside address, or forward another port',
      ].join('\n'),
    )
  }

  #eventfd(): number {
    const fd = eventfd()
    this.#undo.add('an eventfd', () => close(fd))
    return fd
  }

  async #watch(memory: GatewayMemory, wakeFd: number, shardFds: readonly number[]): Promise<void> {
    const { buffer, options } = memory.fib
    const thread = new NetlinkThread({
      fib: { buffer, options },
      ports: this.#names,
      wakeFd,
      shardFds,
      changed: (links) => this.#follow(links),
      overflow: (message) => this.#log.error(message),
      failed: (error) => this.#fail(error),
    })
    this.#undo.add('the netlink watcher', () => thread.stop())
    await thread.started
  }

  #openPorts({ settings }: GatewayMemory, options: PacketPortsOptions): PacketPorts {
    const ports = new PacketPorts(this.#config, settings[0]!.sides, this.#links, options)
    this.#undo.add('sockets and receive rings', () => ports.close())
    this.#ports = ports
    return ports
  }

  /** With a dispatcher's thread, or one shard, the kernel has nothing to decide. */
  #openDispatch({ externals, settings }: GatewayMemory, ports: PacketPorts): void {
    const { dispatch, workers } = this.#config
    if (dispatch === 'thread' || workers === 1) return
    const leases = { shards: workers, key: settings[0]!.ownerKey, externals }
    const rules = staticRules(settings[0]!.forwards)
    const kernel = new KernelDispatch({
      version: () => externals.version(),
      replace: () => ports.setDispatch((side) => ownerProgram(side, leases, rules)),
      failed: (error) => this.#log.error({ err: error }, 'the kernel refused a dispatch program, will be tried again'),
    })
    this.#undo.add('following the leases', () => kernel.stop())
    this.#dispatch = kernel
    // Nothing is received before the first program, be there a lease or not.
    kernel.follow()
  }

  #openAddresses(memory: GatewayMemory): ExternalAddresses {
    const { ports } = this.#config.nat
    const addresses = new ExternalAddresses({
      externals: memory.externals,
      shards: this.#config.workers,
      pool: this.#pool,
      ports,
      forwards: this.#forwards,
      portsInUse: (address) => portsInUse([address], ports),
      hide: (shared, hidden) => this.#host.update({ shared, hidden }),
      changed: () => this.#leasesChanged(),
    })
    const looking = setInterval(
      () => this.#attempt('following the host’s sockets', () => addresses.refresh()),
      LOOK_AT_SOCKETS_EVERY_MS,
    )
    this.#undo.add('the look at sockets', () => clearInterval(looking))
    return addresses
  }

  /** Of the leases that shards ask for; which there are is external-addresses.ts's. */
  #openBlockLeases({ externals, control }: GatewayMemory): void {
    const desk = new BlockLeases({
      externals,
      requests: externals,
      shards: this.#config.workers,
      changed: () => this.#leasesChanged(),
      wake: (shard) => this.#shards?.wake(shard),
    })
    const doorbell = new Doorbell(control.words, () => this.#attempt('lending port blocks', () => desk.serve()))
    const returning = setInterval(
      () => this.#attempt('returning port blocks', () => desk.bringHome()),
      BRING_HOME_EVERY_MS,
    )
    this.#undo.add('the lease desk', () => {
      doorbell.stop()
      clearInterval(returning)
    })
  }

  #keepExpectations(memory: GatewayMemory, startedAt: number): ExpectationGc {
    const expectationGc = keeperOf(memory, () => secondsSince(startedAt))
    const looking = setInterval(
      () => this.#attempt('looking at expectations', () => expectationGc.look()),
      LOOK_AT_EXPECTATIONS_EVERY_MS,
    )
    this.#undo.add('the look at expectations', () => clearInterval(looking))
    return expectationGc
  }

  /** What can't be loaded is said before anything is changed on the host. */
  async #openHelperDesk({ helperList }: GatewayMemory, expectationGc: ExpectationGc): Promise<HelperManager> {
    const desk = new HelperManager({
      list: helperList,
      shards: this.#config.workers,
      wake: () => this.#shards?.wakeAll(),
      drop: (id) => expectationGc.dropHelper(id),
    })
    await desk.begin(this.#config.helpers)
    return desk
  }

  #leasesChanged(): void {
    this.#dispatch?.follow()
    this.#shards?.wakeAll()
  }

  async #startShards(
    helpers: HelperManager,
    options: Pick<
      ShardsOptions,
      'memory' | 'packetRings' | 'dispatcherRings' | 'watcherFd' | 'startedAt' | 'gone' | 'faults'
    >,
  ): Promise<Shards> {
    const shards = new Shards({
      ...options,
      limit: new RestartLimit(this.#config.supervision, () => performance.now()),
      replacing: (failure) => this.#log.error(failure, 'a worker has failed: another one takes its place'),
      replaced: (worker) => {
        this.#log.info(worker, 'the worker is replaced')
        for (const fault of helpers.faults()) this.#log.error({ fault }, 'a helper could not be loaded again')
      },
      failed: (error) => this.#fail(error),
    })
    this.#undo.add('shards', () => shards.stop())
    this.#shards = shards
    await shards.forwarding()
    return shards
  }

  async #serveApi(memory: GatewayMemory, helpers: HelperManager, startedAt: number): Promise<void> {
    const second = () => secondsSince(startedAt)
    const server = await ApiServer.start({
      socket: this.#config.api.socket,
      connections: () => connectionList(memory, second, (id) => helpers.nameOf(id)),
      expectations: () => expectationList({ memory, helpers: helpers.list(), second: second() }),
      helpers,
    })
    this.#undo.add('the API', () => server.close())
  }

  async #serveMetrics(memory: GatewayMemory, shards: Shards, expectationGc: ExpectationGc): Promise<void> {
    const { listen } = this.#config.metrics
    const server = await MetricsServer.start({
      listen,
      registry: createRegistry(countedWorkers(memory, shards), expectationGc),
      health: () => this.#health(),
    })
    this.#undo.add('the metrics server', () => server.close())
    this.#metricsUrl = server.url
  }

  #health(): Health {
    const notTurning = this.#shards?.notTurning() ?? []
    const externalAddresses = this.#addresses?.count ?? 0
    const interfaces = this.#links.map(({ name, up }) => ({ name, up }))
    return {
      ok: notTurning.length === 0 && externalAddresses > 0,
      detail: { shards: this.#config.workers, notTurning, externalAddresses, interfaces },
    }
  }

  /** What the watcher reports: interfaces that came, went or are back, and addresses. */
  #follow(links: readonly LinkReport[]): void {
    if (this.#stopped) return
    for (const { level, what, ...where } of linkChanges(this.#links, links)) this.#log[level](where, what)
    this.#links = links
    this.#attempt('following the interfaces', () => this.#bringInLine())
  }

  /** Sockets, addresses, rules as the interfaces are now. Throws what host/ and io/ throw. */
  #bringInLine(): void {
    const [ports, addresses] = [this.#ports, this.#addresses]
    if (!ports || !addresses) return
    const isBack = ports.follow(this.#links)
    const isNews = addresses.follow(this.#outsideAddress(), isBack)
    if (isNews) this.#logAddress()
  }

  /** The primary address of the first outside interface that has one. */
  #outsideAddress(): Addr | undefined {
    for (const { addresses } of this.#links.slice(this.#config.inside.length)) {
      const first = addresses.find(({ primary }) => primary) ?? addresses[0]
      if (first) return first.address
    }
    return undefined
  }

  #logAddress(): void {
    const shared = this.#addresses?.shared
    if (shared !== undefined) this.#log.info({ address: formatAddress(shared) }, 'translating to the outside address')
    else this.#log.warn({ outside: this.#config.outside }, 'no outside address: waiting for one, nothing is translated')
  }

  /** What fails while the gateway runs is said, and tried again at the next change or look at the host's sockets. */
  #attempt(what: string, step: () => void): void {
    try {
      step()
    } catch (error) {
      this.#log.error({ err: error }, `${what} failed, will be tried again`)
    }
  }

  /** While starting, the start itself fails by it. */
  #fail(error: GatewayError): void {
    this.#failure ??= error
    if (!this.#isRunning || this.#stopped) return
    this.#log.fatal(error.message)
    this.stop(error.message).then(() => this.#end(EXIT_GATEWAY_FAILED))
  }

  async #takeEverythingBack(reason: string): Promise<void> {
    this.#log.debug({ reason }, 'taking everything back')
    for (const { what, error } of await this.#undo.run()) this.#log.error({ err: error }, `${what}: not taken back`)
  }

  #takeHostBack(): void {
    const problems = this.#host.takeBack()
    if (problems.length > 0) throw new Error(problems.join('; '))
  }
}

/** Seconds of the shards' clock; `startedAt` in milliseconds of the machine's. */
const secondsSince = (startedAt: number): number =>
  Math.floor((Number(process.hrtime.bigint() / 1_000_000n) - startedAt) / 1000)

/** The shards and, behind them, the dispatcher. */
function countedWorkers({ counters, dispatcher }: GatewayMemory, supervisor: Shards): CountedWorker[] {
  const counted = (shard: string, counters: Float64Array, worker: number): CountedWorker => ({
    shard,
    counters,
    restarts: () => supervisor.restarts(worker),
    heartbeatAge: () => supervisor.heartbeatAge(worker),
  })
  const shards = counters.map((each, shard) => counted(String(shard), each, shard))
  return dispatcher ? [...shards, counted('dispatcher', dispatcher.counters, shards.length)] : shards
}

/** Packets' words are compared as loaded, little-endian (wire/address.ts). */
function checkByteOrder(): void {
  if (endianness() === 'LE') return
  throw new GatewayError('GATEWAY_BYTE_ORDER', 'this machine is big-endian: natloom runs on little-endian ones only')
}
