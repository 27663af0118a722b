// `natloom run`, from the configuration to the exit code: starts the gateway, waits for a signal or the gateway's own
// end, stops it.
//
//   signal                       while starting            while running       while stopping
//   first SIGINT/TERM/HUP        stop after the start      stop                (was the first)
//   second                       exit at once              exit at once        exit at once
// An exit at once leaves the host's rules and settings as they are: the next start undoes them.

import { constants } from 'node:os'
import type { Logger } from 'pino'
import type { GatewayConfig } from '../coordinator/config.ts'
import { EXIT } from './exit-codes.ts'

export interface RunningGateway {
  readonly metricsUrl: string
  /** Undoes everything. */
  stop(reason: string): Promise<void>
  /** Resolves with an exit code after a failure that the gateway can't go on from. */
  readonly done: Promise<number>
}

export interface RunOptions {
  readonly config: GatewayConfig
  readonly log: Logger
  start(config: GatewayConfig, log: Logger): Promise<RunningGateway>
  /** The process, which signals come from. */
  readonly signals: {
    on(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown
    off(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown
  }
  /** Ends the process at once. */
  exit(code: number): void
}

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
const SIGNAL_EXIT = 128

export async function run({ config, log, start, signals, exit }: RunOptions): Promise<number> {
  let onSignal: (signal: NodeJS.Signals) => void = () => {}
  const asked = new Promise<NodeJS.Signals>((resolve) => {
    let first = true
    onSignal = (signal) => {
      if (!first) return exit(SIGNAL_EXIT + constants.signals[signal])
      first = false
      log.info({ signal }, 'asked to stop')
      resolve(signal)
    }
  })
  for (const signal of STOP_SIGNALS) signals.on(signal, onSignal)
  try {
    const gateway = await start(config, log)
    log.info({ inside: config.inside, outside: config.outside, metrics: gateway.metricsUrl }, 'forwarding')
    const end = await Promise.race([asked, gateway.done])
    if (typeof end === 'number') return end
    await gateway.stop(end)
    log.info('stopped, everything taken back')
    return EXIT.ok
  } finally {
    for (const signal of STOP_SIGNALS) signals.off(signal, onSignal)
  }
}
