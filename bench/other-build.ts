// Another revision of natloom, built beside this one: a temporary git worktree, its own dependencies, its own dist/.
// Owner: the process whose id stands in the folder's name. It removes the worktree when it ends, however it ends; the
// next process removes what a killed one left.

import { execFile, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'

const PREFIX = 'natloom-build-'
const LOCK = 'package-lock.json'
const MODULES = 'node_modules'

const execute = promisify(execFile)

/** Runs a program to its end; returns what it wrote to standard output. An error shows all that it wrote. */
export async function run(folder: string, signal: AbortSignal, program: string, ...args: string[]): Promise<string> {
  try {
    const { stdout } = await execute(program, args, { cwd: folder, encoding: 'utf8', maxBuffer: 1 << 26, signal })
    return stdout.trim()
  } catch (error) {
    if (signal.aborted) throw signal.reason
    const { code, stdout = '', stderr = '' } = error as { code?: unknown; stdout?: string; stderr?: string }
    throw new Error(`${program} ${args.join(' ')} ended with ${code}:\n${(stdout + stderr).trim()}`)
  }
}

/** Runs git and waits for it: it ends at once. */
function git(root: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync('git', args, { cwd: root, encoding: 'utf8' })
  if (error) throw error
  if (status !== 0) throw new Error(`git ${args.join(' ')} ended with ${status}:\n${stderr.trim()}`)
  return stdout.trim()
}

export interface Revision {
  readonly commit: string
  readonly subject: string
  /** How many files differ from the commit. If any do, a figure is not the commit's. */
  readonly modified: number
}

/** The revision that is checked out at `root`. */
export function revisionAt(root: string): Revision {
  const modified = git(root, 'status', '--porcelain').split('\n').filter(Boolean).length
  return { ...describe(root, 'HEAD'), modified }
}

function describe(root: string, revision: string): Omit<Revision, 'modified'> {
  const { status } = spawnSync('git', ['rev-parse', '--quiet', '--verify', `${revision}^{commit}`], { cwd: root })
  if (status !== 0) throw new Error(`${revision} names no commit of this repository`)
  const [commit = '', subject = ''] = git(root, 'log', '-1', '--format=%h%n%s', revision, '--').split('\n')
  return { commit, subject }
}

const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`)

/** Removes worktrees of processes that were killed before they could do so. */
function removeLeftovers(root: string): void {
  for (const line of git(root, 'worktree', 'list', '--porcelain').split('\n')) {
    const path = line.replace(/^worktree /, '')
    const owner = /^natloom-build-(\d+)-/.exec(basename(dirname(path)))?.[1]
    if (path !== line && owner !== undefined && !isAlive(Number(owner))) remove(root, path)
  }
}

function remove(root: string, folder: string): void {
  rmSync(dirname(folder), { recursive: true, force: true })
  // Git forgets worktrees whose folders are gone.
  spawnSync('git', ['worktree', 'prune'], { cwd: root })
}

const sameLock = (root: string, folder: string): boolean => {
  const [here, there] = [join(root, LOCK), join(folder, LOCK)].map((path) =>
    existsSync(path) ? readFileSync(path, 'utf8') : '',
  )
  return here === there
}

/** What long work needs from its caller: somewhere to report to, and a signal that ends it. */
export interface Surroundings {
  say(line: string): void
  /** Aborted when the work is to end early. */
  readonly signal: AbortSignal
}

export class OtherBuild {
  readonly revision: Revision
  /** Where it is checked out and built. */
  readonly folder: string
  readonly #root: string
  readonly #onExit = () => this.remove()

  private constructor(root: string, revision: Omit<Revision, 'modified'>) {
    this.#root = root
    this.revision = { ...revision, modified: 0 }
    this.folder = join(mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`)), revision.commit)
    process.once('exit', this.#onExit)
  }

  /** Builds what `revision` names in the repository at `root`. Takes as long as npm and the compiler take. */
  static async create(root: string, revision: string, under: Surroundings): Promise<OtherBuild> {
    removeLeftovers(root)
    const build = new OtherBuild(root, describe(root, revision))
    try {
      await build.#make(under)
      return build
    } catch (error) {
      build.remove()
      throw error
    }
  }

  async #make({ say, signal }: Surroundings): Promise<void> {
    git(this.#root, 'worktree', 'add', '--quiet', '--detach', this.folder, this.revision.commit)
    if (!sameLock(this.#root, this.folder)) {
      say(`${this.revision.commit}: npm ci, since its ${LOCK} is another one`)
      await run(this.folder, signal, 'npm', 'ci')
    } else if (existsSync(join(this.#root, MODULES))) {
      symlinkSync(join(this.#root, MODULES), join(this.folder, MODULES))
    }
    say(`${this.revision.commit}: npm run build`)
    await run(this.folder, signal, 'npm', 'run', 'build')
  }

  /** May be called twice. */
  remove(): void {
    remove(this.#root, this.folder)
    process.off('exit', this.#onExit)
  }
}
