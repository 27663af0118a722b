// Each folder's README names every file in it, and no file that isn't there: it is the map that a visitor gets.

import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { type Finding, sources } from './finding.ts'

const FOLDERS = ['src', 'workers', 'bench', 'scripts']
const ABOVE_ALL = 'src'

/** Files that a table's first column names: those are the folder's own. */
function listed(readme: string): string[] {
  return readme.split('\n').flatMap((line) => {
    const [, cell = ''] = /^\|((?:[^|\\]|\\.)*)\|/.exec(line) ?? []
    return [...cell.matchAll(/`([\w.-]+\.ts)`/g)].map(([, name]) => name as string)
  })
}

export function checkReadmes(root: string): Finding[] {
  const files = sources(root, FOLDERS).map(({ path }) => path)
  const folders = [...new Set(files.map((path) => dirname(path)))].filter((folder) => folder !== ABOVE_ALL)
  return folders.flatMap((folder) => {
    const place = `${folder}/README.md`
    const own = files.filter((path) => dirname(path) === folder).map((path) => basename(path))
    if (!existsSync(join(root, place)))
      return [{ place, rule: 'is not there', advice: `say what the folder is for, and name: ${own.join(', ')}` }]
    const text = readFileSync(join(root, place), 'utf8')
    return [
      ...own
        .filter((name) => !text.includes(`\`${name}\``))
        .map((name) => ({ place, rule: `does not name ${name}`, advice: 'add its line to the table of files' })),
      ...listed(text)
        .filter((name) => !own.includes(name))
        .map((name) => ({ place, rule: `names ${name}, which is not there`, advice: 'take the line out' })),
    ]
  })
}
