// Where the compiled entry points of threads are. Threads start from dist/ always, also when the code that starts them
// runs uncompiled (tests): a worker thread has no compiler.

import { fileURLToPath } from 'node:url'

const FROM_COMPILED = '../../../workers/'
const FROM_SOURCE = '../../../dist/workers/'

export function workerFile(name: 'shard' | 'dispatcher' | 'netlink' | 'replay'): string {
  const folder = import.meta.url.endsWith('.ts') ? FROM_SOURCE : FROM_COMPILED
  return fileURLToPath(new URL(`${folder}${name}.js`, import.meta.url))
}
