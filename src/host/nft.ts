// The program nft, by which the rules of others are listed (ruleset.ts). natloom's own rules need no program
// (rule-tables.ts). Authority: nft(8).

import { execFileSync } from 'node:child_process'
import { HostError, reasonOf } from './errors.ts'
import { TOOL_PATH } from './rights.ts'

/** Runs nft with arguments; its standard output. Throws HostError HOST_NFT. */
export function nft(args: readonly string[]): string {
  try {
    return execFileSync('nft', args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 256 << 20,
      env: { ...process.env, PATH: TOOL_PATH },
    })
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim() || reasonOf(error)
    throw new HostError('HOST_NFT', `nft ${args.join(' ')} failed: ${said}`, { cause: error })
  }
}
