// The lab for an ordinary user: it runs itself again as root of a user namespace that has a network and a /run of its
// own (user_namespaces(7), unshare(1)). All that it makes in there is gone when its last process has ended.

import { spawn, spawnSync } from 'node:child_process'
import { run } from './namespace.ts'

const UNSHARE = ['--user', '--map-root-user', '--net', '--mount'] as const
/**
 * Set in the environment of the lab inside. Not NATLOOM_..., because the gateway refuses unknown variables of that
 * name.
 */
const MARK = 'LAB_IN_USER_NAMESPACE'
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
const SIGNAL_EXIT = 128
const NUMBERS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const

/** Whether this process was started by runInUserNamespace(). */
export const inUserNamespace = (): boolean => process.env[MARK] !== undefined

/** Why this user can't have a user namespace, or undefined. */
export function userNamespaceRefusal(): string | undefined {
  const { status, stderr, error } = spawnSync('unshare', [...UNSHARE, 'mount', '-t', 'tmpfs', 'tmpfs', '/run'], {
    encoding: 'utf8',
  })
  if (error !== undefined) return error.message
  return status === 0 ? undefined : stderr.trim()
}

/** Runs this command again in a user namespace, to its end; returns its exit code. Signals are passed on. */
export async function runInUserNamespace(): Promise<number> {
  const child = spawn(
    'unshare',
    [
      ...UNSHARE,
      '--',
      'setpriv',
      '--pdeathsig',
      'TERM',
      process.execPath,
      ...process.execArgv,
      ...process.argv.slice(1),
    ],
    { stdio: 'inherit', env: { ...process.env, [MARK]: '1' }, detached: true },
  )
  const passOn = (signal: NodeJS.Signals) => child.kill(signal)
  for (const signal of SIGNALS) process.on(signal, passOn)
  try {
    return await new Promise<number>((resolve, reject) => {
      child.once('error', reject)
      child.once('exit', (code, signal) => resolve(code ?? SIGNAL_EXIT + (NUMBERS[signal as 'SIGTERM'] ?? 0)))
    })
  } finally {
    for (const signal of SIGNALS) process.off(signal, passOn)
  }
}

/** To be called inside: `ip netns` keeps its names in /run/netns, which outside belongs to root. */
export function prepareUserNamespace(): void {
  run('mount', ['-t', 'tmpfs', 'tmpfs', '/run'])
}
