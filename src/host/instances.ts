// The natlooms that serve one network namespace. Each has a name of its own, interfaces that no other one serves, and a
// state file (state.ts); in the registry's folder lies a link to each of those files, so that one natloom knows of the
// others, also of killed ones. What is decided by what others do (the port range, the mark of routes) is decided in
// turn, behind a lock. Control plane, synchronous.
// Owner: each natloom of its own link; a link to a file that is gone is removed by whoever finds it.

import { mkdirSync, readdirSync, readlinkSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { HostError, reasonOf } from './errors.ts'
import { foreignHolderOf, isLocked, type Lock, tryLock, withLock } from './locks.ts'
import { type HostState, isRunning, readState, thisNamespace } from './state.ts'

const REGISTRY = '/run/natloom/instances'
/** What is done behind the lock takes milliseconds; a natloom that was stopped in the middle holds it. */
const PATIENCE_MS = 10_000

/** Another natloom of this namespace. */
export interface Instance {
  readonly state: HostState
  /** False: it was killed, and its next start undoes what it has changed. */
  readonly running: boolean
}

/** What a natloom has for itself: the lock's name, and why another one is refused. */
function claimsOf(name: string, interfaces: readonly string[]): { lock: string; refusal: () => string }[] {
  return [
    {
      lock: `name/${name}`,
      refusal: () => {
        const holder = instances().find(({ state, running }) => running && state.name === name)
        return (
          `a natloom named ${name} runs here already (${processOf(holder)}): stop it, or give this one another name ` +
          '(name, NATLOOM_NAME) if it serves other interfaces'
        )
      },
    },
    ...interfaces.map((each) => ({
      lock: `interface/${each}`,
      refusal: () => {
        const holder = instances().find(({ state, running }) => running && state.interfaces.includes(each))
        return (
          `interface ${each} is served by another natloom already (${holder ? `${holder.state.name}, ` : ''}` +
          `${processOf(holder)}): stop that one, or name other interfaces under inside and outside`
        )
      },
    })),
  ]
}

/**
 * Takes a name and interfaces for this process; a killed natloom's are free. Throws HostError HOST_IN_USE that says who
 * has one of them, and what tryLock throws; then it has taken nothing.
 */
export function claim(name: string, interfaces: readonly string[]): Lock {
  const locks: Lock[] = []
  const release = () => {
    for (const lock of locks.splice(0)) lock.release()
  }
  try {
    for (const { lock, refusal } of claimsOf(name, interfaces)) {
      const taken = tryLock(lock)
      if (!taken) throw new HostError('HOST_IN_USE', refusal())
      locks.push(taken)
    }
  } catch (error) {
    release()
    throw error
  }
  return { release }
}

/** Why `claim` would refuse now; undefined if it would not. Takes nothing. */
export function refusalOf(name: string, interfaces: readonly string[]): string | undefined {
  const taken = claimsOf(name, interfaces).find(({ lock }) => isLocked(lock))
  return taken && (foreignHolderOf(taken.lock) ?? taken.refusal())
}

const processOf = (holder: Instance | undefined): string =>
  holder ? `process ${holder.state.owner.pid}` : 'it is just starting'

/** Runs a step that reads or changes what all natlooms of this namespace share. Throws HostError HOST_STATE. */
export function inTurn<T>(step: () => T): T {
  const turn = withLock('registry', PATIENCE_MS, step)
  if (turn) return turn.result
  throw new HostError(
    'HOST_STATE',
    `another natloom has kept this one from its turn for ${PATIENCE_MS / 1000} s: if it is stopped (state T in ps), ` +
      'continue or end it',
  )
}

/** All others than the one of this name. */
export const otherInstances = (name: string): Instance[] => instances().filter(({ state }) => state.name !== name)

function instances(): Instance[] {
  const prefix = entryName('')
  return entries()
    .filter((entry) => entry.startsWith(prefix))
    .flatMap((entry) => {
      const state = stateOf(join(REGISTRY, entry))
      return state && state.namespace === thisNamespace() ? [{ state, running: isRunning(state) }] : []
    })
}

function entries(): string[] {
  try {
    return readdirSync(REGISTRY)
  } catch {
    // The first natloom makes it.
    return []
  }
}

function stateOf(link: string): HostState | undefined {
  try {
    const state = readState(link)
    if (!state) rmSync(link, { force: true })
    return state
  } catch {
    // Of another version or unreadable: its own next start says so.
    return undefined
  }
}

/** `4026531840-natloom`: the namespace by its inode number, as /proc names it. */
const entryName = (name: string): string => `${/\d+/.exec(thisNamespace())?.[0]}-${name}`

/** Makes a state file known to others. Throws HostError HOST_STATE. */
export function register(name: string, statePath: string): void {
  const link = join(REGISTRY, entryName(name))
  try {
    mkdirSync(REGISTRY, { recursive: true })
    if (linkTarget(link) === statePath) return
    rmSync(link, { force: true })
    symlinkSync(statePath, link)
  } catch (error) {
    throw new HostError(
      'HOST_STATE',
      `${link} can't be made (${reasonOf(error)}): natlooms find each other there; make its folder writable`,
      { cause: error },
    )
  }
}

function linkTarget(link: string): string | undefined {
  try {
    return readlinkSync(link)
  } catch {
    return undefined
  }
}

export const unregister = (name: string): void => rmSync(join(REGISTRY, entryName(name)), { force: true })
