// `natloom run`, from the configuration to the exit code: starts the gateway, waits for a signal or the gateway's own
// end, stops it.
//
//   signal                       while starting            while running        while stopping
//   first SIGINT/TERM/HUP        give up the start, stop   stop                 stop (the gateway ends by itself)
//   within two seconds of it     nothing                   nothing              nothing
//   later                        -                         -                    exit at once
// One request to stop often comes as several signals: a terminal's Ctrl-C reaches natloom and the npm that started it,
// which passes it on; timeout(1) signals its command and then its process group. Only somebody who has waited means to
// end it by force. An exit at once leaves the host's rules and settings as they are: the next start undoes them.
//
// The signals are listened to until the process ends, because a repeat that comes in its last milliseconds would
// otherwise end it by the signal's default action.

import { constants } from 'node:os'
import type { Logger } from 'pino'
import type { GatewayConfig } from '../coordinator/config.ts'
import { memoryPlan } from '../coordinator/memory-plan.ts'
import type { ServiceManager, Watched } from '../coordinator/service-manager.ts'
import { explain } from './errors.ts'
import { EXIT } from './exit-codes.ts'

export interface RunningGateway {
  /** Resolves once it forwards. Rejects with why it can't start, or when it is stopped before. */
  readonly started: Promise<unknown>
  /** Valid once it has started. */
  readonly metricsUrl: string
  readonly health: Watched
  /** Undoes everything, in bounded time, also while it starts. Resolves with what could not be undone. */
  stop(reason: string): Promise<readonly { readonly late: boolean }[]>
  /** Resolves with an exit code after a failure that the gateway can't go on from. */
  readonly done: Promise<number>
}

export interface RunOptions {
  readonly config: GatewayConfig
  readonly log: Logger
  begin(config: GatewayConfig, log: Logger): RunningGateway
  /** Told of the start and the end of forwarding. */
  readonly manager: Pick<ServiceManager, 'ready' | 'stopping'>
  /** The process, which signals come from. */
  readonly signals: { on(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown }
  /** Milliseconds of a monotonic clock. */
  now(): number
  /** Ends the process at once, whatever its threads do. */
  exit(code: number): void
}

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
const SIGNAL_EXIT = 128
const MEGABYTE = 2 ** 20
/** Signals that come this soon after the first one are the same request. */
const SAME_REQUEST_MS = 2000

export async function run(options: RunOptions): Promise<number> {
  const { config, log, begin, manager, exit } = options
  const asked = stopRequest(options)
  const gateway = begin(config, log)
  const running = gateway.started.then(() => {
    const { inside, outside } = config
    const memoryMegabytes = Math.ceil(memoryPlan(config).total / MEGABYTE)
    log.info({ inside, outside, metrics: gateway.metricsUrl, memoryMegabytes }, 'forwarding')
    manager.ready(gateway.health)
    return gateway.done
  })
  try {
    const end = await Promise.race([asked, running])
    manager.stopping(typeof end === 'string' ? end : 'the gateway failed')
    const left = await gateway.stop(String(end))
    if (left.length === 0) log.info('stopped, everything taken back')
    return finish(typeof end === 'string' && left.length === 0 ? EXIT.ok : EXIT.gatewayFailed, left, exit)
  } catch (error) {
    const left = await gateway.stop('could not start')
    if (!left.some(({ late }) => late)) throw error
    const { text, exitCode } = explain(error)
    log.fatal(text)
    return finish(exitCode, left, exit)
  }
}

/** Resolves with the first signal; from then on the repeats are handled. */
function stopRequest({ log, signals, now, exit }: RunOptions): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let first: number | undefined
    const onSignal = (signal: NodeJS.Signals) => {
      if (first === undefined) {
        first = now()
        log.info({ signal }, 'asked to stop')
        resolve(signal)
      } else if (now() - first < SAME_REQUEST_MS) {
        log.debug({ signal }, 'asked to stop again: the same request')
      } else {
        log.warn({ signal }, 'asked to stop again: ending at once, the next start takes everything back')
        exit(SIGNAL_EXIT + constants.signals[signal])
      }
    }
    for (const signal of STOP_SIGNALS) signals.on(signal, onSignal)
  })
}

/** An ordinary exit waits for every thread's end, which a thread that was late may never reach. */
function finish(code: number, left: readonly { readonly late: boolean }[], exit: RunOptions['exit']): number {
  if (left.some(({ late }) => late)) exit(code)
  return code
}
