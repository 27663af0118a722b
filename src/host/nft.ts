// The program nft, by which the rules of others are listed (ruleset.ts). natloom's own rules need no program
// (rule-tables.ts). Authority: nft(8).

import { execFileSync } from 'node:child_process'
import { HostError, reasonOf } from './errors.ts'
import { TOOL_PATH } from './rights.ts'

/**
 * The main thread waits meanwhile: shorter than the time after which it misses its watchdog (WatchdogSec of the unit,
 * 30 s), and longer than nft takes to list tens of thousands of rules.
 */
const PATIENCE_MS = 10_000

/** Runs nft with arguments, and ends it if that takes too long; its standard output. Throws HostError HOST_NFT. */
export function nft(args: readonly string[], patienceMs = PATIENCE_MS): string {
  try {
    return execFileSync('nft', args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 256 << 20,
      env: { ...process.env, PATH: TOOL_PATH },
      timeout: patienceMs,
      killSignal: 'SIGKILL',
    })
  } catch (error) {
    throw new HostError('HOST_NFT', `nft ${args.join(' ')} failed: ${whatNftSaid(error, patienceMs)}`, { cause: error })
  }
}

function whatNftSaid(error: unknown, patienceMs: number): string {
  const { code, stderr } = error as NodeJS.ErrnoException & { readonly stderr?: string }
  if (code === 'ETIMEDOUT')
    return (
      `it was ended, since it had not answered within ${patienceMs / 1000} s: see what it waits for ` +
      '(`nft list ruleset` in a shell), or whether this host has time for it'
    )
  return stderr?.trim() || reasonOf(error)
}
