// The state file: what natloom has changed on this host and has to undo. It exists from before the first change until
// the last one is undone, so that the next start can undo what a killed gateway could not. Written to a draft and
// renamed into place. Owner: the one running natloom that the file names.

import { existsSync, mkdirSync, readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { HostError, reasonOf } from './errors.ts'
import { FIRST_ROUTE_PROTOCOL } from './pool.ts'
import type { PortRange } from './port-range.ts'

/** The name of a gateway that was given none. */
export const DEFAULT_NAME = 'natloom'
const FORMAT = 2

export interface HostState {
  readonly format: typeof FORMAT
  /** The gateway's. */
  readonly name: string
  /** Names of those that it serves. */
  readonly interfaces: readonly string[]
  readonly owner: ProcessIdentity
  /** The network namespace that the changes were made in, as /proc names it. */
  readonly namespace: string
  /**
   * The port range that this gateway needs, and the one from before the first of those that run at the same time;
   * null if it needs none.
   */
  readonly portRange: { readonly original: PortRange; readonly set: PortRange } | null
  /** Names with family: `ip natloom`. */
  readonly nftTables: readonly string[]
  /** Addresses, as loaded, for which a local route was made. */
  readonly pool: readonly number[]
  /** The RTPROT_* number of these routes. */
  readonly routeProtocol: number
}

/** What every state file of format 1 leaves out: there was one natloom a host. */
const FORMAT_1: Pick<HostState, 'name' | 'interfaces' | 'routeProtocol'> = {
  name: DEFAULT_NAME,
  interfaces: [],
  routeProtocol: FIRST_ROUTE_PROTOCOL,
}

/** A process id is reused some time; together with the time at which the process began it is unique. */
export interface ProcessIdentity {
  readonly pid: number
  /** Clock ticks since boot. */
  readonly started: string
}

export const thisNamespace = (): string => readlinkSync('/proc/thread-self/ns/net')

function processIdentity(pid: number): ProcessIdentity | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The second field is the program's name in parentheses and may hold anything; `started` is the 22nd.
    return { pid, started: stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] }
  } catch {
    return undefined
  }
}

/** The state of this process, which has changed nothing yet. Throws HostError HOST_STATE. */
export function newState(name: string, interfaces: readonly string[]): HostState {
  const owner = processIdentity(process.pid)
  if (!owner) throw new HostError('HOST_STATE', '/proc is not mounted: natloom needs it')
  const nothing = { portRange: null, nftTables: [], pool: [], routeProtocol: FIRST_ROUTE_PROTOCOL }
  return { format: FORMAT, name, interfaces, owner, namespace: thisNamespace(), ...nothing }
}

/** Whether the process that wrote this state still runs. */
export const isRunning = ({ owner: { pid, started } }: HostState): boolean => processIdentity(pid)?.started === started

/**
 * What a killed natloom left behind in this namespace, undefined if nothing.
 * Throws HostError: HOST_IN_USE if that natloom still runs, HOST_STATE if the file can't be read.
 */
export function leftBehind(path: string): HostState | undefined {
  const state = readState(path)
  if (!state) return undefined
  const { pid } = state.owner
  if (isRunning(state) && pid !== process.pid)
    throw new HostError(
      'HOST_IN_USE',
      `${path} belongs to the natloom ${state.name}, which is running (process ${pid}): stop it, or give this one ` +
        'another name (name, NATLOOM_NAME) and leave statePath out if it serves other interfaces',
    )
  // Changes in another namespace can't be undone from this one; if that namespace is gone, they went with it.
  return state.namespace === thisNamespace() ? state : undefined
}

/** Undefined if there is none. Throws HostError HOST_STATE if it can't be read. */
export function readState(path: string): HostState | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new HostError('HOST_STATE', `${path} can't be read: ${reasonOf(error)}`, { cause: error })
  }
  const state = parsed(text) as Partial<Omit<HostState, 'format'> & { readonly format: number }> | undefined
  if (state?.owner) {
    if (state.format === FORMAT) return state as HostState
    if (state.format === 1) return { ...FORMAT_1, ...state, format: FORMAT } as HostState
  }
  throw new HostError(
    'HOST_STATE',
    `${path} is not a state file that this natloom can read: compare net.ipv4.ip_local_port_range and ` +
      '`nft list table ip natloom` with what you want, then delete the file',
  )
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Throws HostError HOST_STATE. */
export function writeState(path: string, state: HostState): void {
  const draft = `${path}.new`
  try {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(draft, `${JSON.stringify(state, undefined, 2)}\n`, { mode: 0o600, flush: true })
    renameSync(draft, path)
  } catch (error) {
    throw new HostError(
      'HOST_STATE',
      `${path} can't be written (${reasonOf(error)}): natloom keeps there what it has to undo; ` +
        'make its folder writable or name another file',
      { cause: error },
    )
  }
}

export const stateExists = (path: string): boolean => existsSync(path)

export const removeState = (path: string): void => rmSync(path, { force: true })
