// The package as npm makes it of this folder: the list of what it holds, the tarball, an unpacked one; and how programs
// are run that do something with it.

import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PROGRAM_LIMIT_MS } from '../patience.ts'

export const PROJECT = fileURLToPath(new URL('../../', import.meta.url))

/** dist/ is there (the tests' pre-script builds it): npm's own scripts would build it anew under other tests' feet. */
const PACK = ['pack', '--json', '--ignore-scripts']

function pack(args: readonly string[]): { readonly filename: string; readonly files: readonly { path: string }[] } {
  const [packed] = JSON.parse(execFileSync('npm', [...PACK, ...args], { cwd: PROJECT, encoding: 'utf8' }))
  return packed
}

/** The paths of all files that the package holds. */
export const packedFiles = (): readonly string[] => pack(['--dry-run']).files.map(({ path }) => path)

/** Makes the tarball in a folder, and returns its path. */
export const tarball = (folder: string): string => join(folder, pack(['--pack-destination', folder]).filename)

/** Unpacks the package as `natloom` into the folder's node_modules, without what it depends on. */
export function unpackInto(folder: string): void {
  const to = join(folder, 'node_modules', 'natloom')
  mkdirSync(to, { recursive: true })
  execFileSync('tar', ['-xzf', tarball(folder), '-C', to, '--strip-components=1'])
}

/** Of npm's: no answer of the registry's is asked for twice, and it says nothing but what is wrong. */
export const QUIETLY = ['--prefer-offline', '--loglevel=error'] as const

/** Runs a program to its end; returns what it printed on standard output. Rejects with all that it printed. */
export function run(folder: string, program: string, ...args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const limits = { timeout: PROGRAM_LIMIT_MS, maxBuffer: 1 << 26 }
    execFile(program, args, { cwd: folder, ...limits }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${program} ${args.join(' ')}: ${error.message}\n${stdout}${stderr}`))
      else resolve(stdout)
    })
  })
}
