// The log: pino to standard error, main thread only; JSON for machines, a line of text for people. Levels are named, as
// systems that collect logs want them.

import pino from 'pino'
import type { GatewayConfig } from '../coordinator/config.ts'
import { EXIT } from './exit-codes.ts'

const STDERR = 2

/** Standard error, or a test's substitute. `write` is called with one whole line. */
export interface LogTarget {
  readonly isTTY?: boolean | undefined
  write(line: string): unknown
}

export function createLog({ level, format }: GatewayConfig['log'], target?: LogTarget): pino.Logger {
  // Synchronous, so that the last lines before an exit are not lost.
  const destination = target ?? pino.destination({ dest: STDERR, sync: true })
  const isTerminal = (target ?? process.stderr).isTTY === true
  const asText = format === 'text' || (format === 'auto' && isTerminal)
  const options: pino.LoggerOptions = { level, base: null, formatters: { level: (label) => ({ level: label }) } }
  if (!asText) return pino({ ...options, timestamp: pino.stdTimeFunctions.isoTime }, destination)
  return pino(options, { write: (line: string) => void destination.write(textLine(line)) })
}

/** `07:12:03.125 WARN  the interface is down interface=wan0`, and a stack below it; times are UTC. */
function textLine(json: string): string {
  const { level, time, msg, err, ...rest } = JSON.parse(json) as Record<string, unknown>
  const when = new Date(Number(time)).toISOString().slice(11, 23)
  const label = String(level).toUpperCase().padEnd(5)
  const words = Object.entries(rest).map(([key, value]) => `${key}=${plain(value)}`)
  const stack = (err as { stack?: unknown } | undefined)?.stack
  const head = [when, label, ...(msg === undefined ? [] : [String(msg)]), ...words].join(' ')
  return stack === undefined ? `${head}\n` : `${head}\n${String(stack)}\n`
}

/**
 * What Node would print of this process by itself is logged instead: warnings, and an error that nobody has caught.
 * That is a fault of natloom, and the process ends with `exit`; what it has set on the host stays, so that the host
 * fails closed, and the next start takes it over.
 */
export function logProcess(log: pino.Logger, exit: (code: number) => void): void {
  // Node's own listener prints them.
  process.removeAllListeners('warning')
  process.on('warning', ({ name, message }) => log.warn({ warning: name }, message))
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, `unexpected, a fault of natloom: ${reasonOf(error)}`)
    exit(EXIT.unexpected)
  })
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const plain = (value: unknown): string =>
  typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)
