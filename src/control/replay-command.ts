// `natloom replay`: sends a capture through the datapath in virtual time, without a gateway and without privileges
// (replay/replay.ts). Reads the command's options; events go to a file or to standard output, a summary to standard
// error.

import { closeSync, existsSync, openSync, realpathSync, writeSync } from 'node:fs'
import { resolve } from 'node:path'
import type { FilterRuleConfig } from '../coordinator/filter.ts'
import { moduleAt } from '../coordinator/helpers/helper-config.ts'
import { MOST_WORKERS } from '../coordinator/memory-plan.ts'
import type { ReplayHelper, ReplayOptions, Summary } from '../replay/replay.ts'
import { type Addr, type Prefix, parseAddress, parsePrefix } from '../wire/address.ts'
import { filterRule } from './config.ts'
import { EXIT } from './exit-codes.ts'
import { readRule } from './filter-text.ts'
import { FILE_ERRORS } from './problem.ts'
import { hint, prefixText } from './schema/addresses.ts'
import { filter } from './schema/filter.ts'

/** The options as the command line gives them. */
export interface ReplayArguments {
  readonly inside?: readonly string[]
  readonly outsideAddress: string
  readonly nat: boolean
  readonly helper?: readonly string[]
  readonly filter?: readonly string[]
  readonly workers: string
  readonly outInside?: string
  readonly outOutside?: string
  readonly events?: string
  readonly eventsPackets?: true
  readonly completeChecksums: boolean
}

/** An address for documentation (RFC 5737), which no host in a capture has. */
export const DEFAULT_OUTSIDE = '203.0.113.1'
const DEFAULT_HELPERS: readonly ReplayHelper[] = [{ module: 'ftp', ports: [] }]
const STANDARD_OUTPUT = 1
const WRITE_AT = 1 << 16

/** An option has a value that is not allowed. */
class ReplayCommandError extends Error {
  override readonly name = 'ReplayCommandError'
  readonly code = 'REPLAY_COMMAND'
  readonly exitCode = EXIT.configuration
}

/** Resolves with the exit code. Throws PcapError, ReplayCommandError. */
export async function replayCapture(
  file: string,
  given: ReplayArguments,
  say: (text: string) => void,
): Promise<number> {
  const options = optionsOf(file, given)
  refuseSameFiles(file, given)
  const lines = given.events === undefined ? undefined : new LineFile(given.events)
  try {
    const { replay } = await import('../replay/replay.ts')
    const summary = await replay(lines ? { ...options, event: (line) => lines.write(line) } : options)
    say(summaryText(file, summary))
    return EXIT.ok
  } finally {
    lines?.close()
  }
}

function optionsOf(file: string, given: ReplayArguments): ReplayOptions {
  const workers = /^\d+$/.test(given.workers) ? Number(given.workers) : 0
  if (workers < 1 || workers > MOST_WORKERS)
    throw new ReplayCommandError(
      `--workers ${JSON.stringify(given.workers)} is not allowed; allowed: a whole number from 1 to ${MOST_WORKERS}`,
    )
  if (given.eventsPackets && given.events === undefined)
    throw new ReplayCommandError(
      '--events-packets says what the events are, but not where they go: say --events FILE or -',
    )
  return {
    file,
    inside: given.inside?.map(prefixOf),
    outsideAddress: addressOf(given.outsideAddress),
    translate: given.nat,
    helpers: given.helper?.map(helperOf) ?? DEFAULT_HELPERS,
    filter: given.filter?.map(filterRuleOf) ?? [],
    workers,
    completeChecksums: given.completeChecksums,
    outInside: given.outInside,
    outOutside: given.outOutside,
    packetEvents: given.eventsPackets === true,
  }
}

/** A file that is written while another one is, or while it is read, is neither in the end. */
function refuseSameFiles(capture: string, { outInside, outOutside, events }: ReplayArguments): void {
  const files = { 'the capture': capture, '--out-inside': outInside, '--out-outside': outOutside, '--events': events }
  const whose = new Map<string, string>()
  for (const [name, file] of Object.entries(files)) {
    if (file === undefined || (name === '--events' && file === '-')) continue
    const path = existsSync(file) ? realpathSync(file) : resolve(file)
    const other = whose.get(path)
    // Devices take whatever is written (/dev/null).
    if (other !== undefined && !path.startsWith('/dev/'))
      throw new ReplayCommandError(`${name} ${file} is ${other}, too; name another file`)
    whose.set(path, name)
  }
}

function prefixOf(text: string): Prefix {
  try {
    return parsePrefix(text.includes('/') ? text : `${text}/32`)
  } catch {
    throw new ReplayCommandError(`--inside ${JSON.stringify(text)} is not allowed; allowed: ${prefixText(text)}`)
  }
}

function addressOf(text: string): Addr {
  try {
    return parseAddress(text)
  } catch {
    const allowed = `an IPv4 address, such as ${DEFAULT_OUTSIDE}${hint(text)}`
    throw new ReplayCommandError(`--outside-address ${JSON.stringify(text)} is not allowed; allowed: ${allowed}`)
  }
}

/** `ftp`, `ftp=2121`, `./my-helper.js=9000`. */
function helperOf(text: string): ReplayHelper {
  const [, module, port] = /^(.*?)(?:=(\d+))?$/s.exec(text) as RegExpExecArray
  const number = Number(port)
  if (!module || text.endsWith('=') || (port !== undefined && (number < 1 || number > 65535)))
    throw new ReplayCommandError(
      `--helper ${JSON.stringify(text)} is not allowed; allowed: NAME or NAME=PORT, the port from 1 to 65535`,
    )
  return { module: moduleAt(process.cwd(), module), ports: port === undefined ? [] : [number] }
}

/** `deny out tcp port 25`, as the configuration's key `filter` takes it. */
function filterRuleOf(text: string): FilterRuleConfig {
  const { data, error } = filter.safeParse([readRule(text)].map((read) => ('fault' in read ? text : read)))
  if (data) return filterRule(data[0]!)
  throw new ReplayCommandError(`--filter ${text}: allowed: ${error.issues[0]!.message}`)
}

/** Lines into a file, or to standard output (`-`). */
class LineFile {
  readonly #file: number
  #pending: string[] = []
  #length = 0

  constructor(path: string) {
    try {
      this.#file = path === '-' ? STANDARD_OUTPUT : openSync(path, 'w')
    } catch (error) {
      const { code = '', message } = error as NodeJS.ErrnoException
      const why = code === 'ENOENT' ? 'there is no such folder' : (FILE_ERRORS[code] ?? message)
      throw new ReplayCommandError(
        `--events ${path} can't be written: ${why}; name another file, or - for standard output`,
      )
    }
  }

  write(line: string): void {
    this.#pending.push(line, '\n')
    this.#length += line.length + 1
    if (this.#length >= WRITE_AT) this.#flush()
  }

  close(): void {
    this.#flush()
    if (this.#file !== STANDARD_OUTPUT) closeSync(this.#file)
  }

  #flush(): void {
    const bytes = Buffer.from(this.#pending.join(''))
    this.#pending = []
    this.#length = 0
    for (let done = 0; done < bytes.length; ) {
      try {
        done += writeSync(this.#file, bytes, done)
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        // The reader has closed the pipe.
        if (code === 'EPIPE') return
        if (code !== 'EAGAIN') throw error
      }
    }
  }
}

const PASSED_OVER: Readonly<Record<string, string>> = {
  ipv6: 'IPv6',
  arp: 'ARP',
  'not-ip': 'no IP',
  short: 'cut off before their addresses',
  link: 'of a link that is not read',
  'one-side': 'between hosts of one side',
}

function summaryText(file: string, summary: Summary): string {
  const { frames, passedOver, completed, toInside, toOutside, drops, notOurs, connections } = summary
  const { expected, matched, lostEvents } = summary
  const list = (counts: ReadonlyMap<string, number>, name = (key: string): string => key): string =>
    [...counts].map(([key, count]) => `${count} ${name(key)}`).join(', ') || 'none'
  return [
    `${file}: ${frames} frames`,
    `  passed over        ${list(passedOver, (key) => PASSED_OVER[key] ?? key)}`,
    ...(completed === 0 ? [] : [`  checksums          ${completed} completed, which the network card was to compute`]),
    `  sent               ${toOutside} to outside, ${toInside} to inside`,
    `  dropped            ${list(drops)}`,
    ...(notOurs === 0 ? [] : [`  left to the host   ${notOurs}`]),
    `  connections        ${connections}`,
    `  expectations       ${expected}, ${matched} of them met`,
    ...(lostEvents === 0 ? [] : [`  events lost        ${lostEvents}`]),
  ].join('\n')
}
