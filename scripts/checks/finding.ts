// What a check finds, and the files that it looks at. A check is a function of the project's folder: it can be shown
// another one, which is how its test shows that it can fail (test/scripts/).

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Finding {
  /** The file, with a line number if there is one. */
  readonly place: string
  /** The rule that is broken there. */
  readonly rule: string
  /** What to do about it. */
  readonly advice: string
}

export interface Source {
  /** From the project's folder. */
  readonly path: string
  readonly text: string
}

export const describeFinding = ({ place, rule, advice }: Finding): string => `${place}: ${rule}\n    ${advice}`

/** The TypeScript files of some of the project's folders, in order; a folder that isn't there has none. */
export function sources(root: string, folders: readonly string[]): Source[] {
  const present = new Set(readdirSync(root))
  return folders
    .filter((folder) => present.has(folder))
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith('.ts'))
        .sort()
        .map((name) => `${folder}/${name}`),
    )
    .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }))
}
