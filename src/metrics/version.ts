// natloom's version, read from the nearest package.json above this file: the checkout's or the installed package's.

import { existsSync, readFileSync } from 'node:fs'

function packageVersion(): string {
  let folder = new URL('.', import.meta.url)
  while (!existsSync(new URL('package.json', folder))) {
    const above = new URL('..', folder)
    if (above.href === folder.href) throw new Error('no package.json above natloom')
    folder = above
  }
  const { version } = JSON.parse(readFileSync(new URL('package.json', folder), 'utf8')) as { version: string }
  return version
}

export const version = packageVersion()
