// What becomes of a module that is tried in a process of its own, whatever it does: the helper that it makes, or a
// reason with the place; and no process is left.

import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { HelperError } from '../../../src/coordinator/helpers/errors.ts'
import { endReason, tryHelper } from '../../../src/coordinator/helpers/helper-trial.ts'
import { testFolder } from '../../leftovers.ts'
import { eventually } from '../../patience.ts'

let folder: string
let modules = 0
beforeAll(() => {
  folder = testFolder('trials')
})
afterAll(() => rmSync(folder, { recursive: true }))

function moduleOf(text: string, ending = 'mjs'): string {
  const path = join(folder, `helper-${++modules}.${ending}`)
  writeFileSync(path, text)
  return path
}

const HELPER = `{ name: 'beacon', tuple: { proto: 'udp', dstPort: 9000 }, maxExpected: 2, help() {} }`

describe.concurrent('a module is taken', () => {
  const taken = [
    ['that exports a helper', `export default ${HELPER}`, 'mjs'],
    ['of the older kind', `module.exports = ${HELPER}`, 'cjs'],
    ['that exports a function of options', `export default ({ a }) => a === 1 && ${HELPER}`, 'mjs'],
    ['that waits for something that comes', `await new Promise(setImmediate); export default ${HELPER}`, 'mjs'],
    ['that prints', `console.log('a'); console.error('b'); export default ${HELPER}`, 'mjs'],
    ['that keeps its process busy afterwards', `setInterval(() => {}, 1); export default ${HELPER}`, 'mjs'],
  ] as const
  for (const [what, text, ending] of taken)
    it(what, async ({ expect }) => {
      const options = text.includes('({ a })') ? { a: 1 } : {}
      expect(await tryHelper({ module: moduleOf(text, ending), options, load: 1 })).toEqual({
        name: 'beacon',
        tuple: { proto: 'udp', dstPort: 9000 },
        classes: [{ name: 'default', maxExpected: 2, timeoutSeconds: 300 }],
      })
    })
})

describe.concurrent('a module is refused', () => {
  const modules = [
    ['that is not there', '', /: there is no such file$/],
    ['that does not parse', 'export default {\n  name: ,\n}', /: SyntaxError: Unexpected token ',' \(at MODULE:2:9\)$/],
    ['that ends too early', 'export default {\n', /: SyntaxError: Unexpected end of input \(at MODULE:2\)$/],
    [
      'that imports what is not there',
      'import { no } from "node:fs"',
      /: SyntaxError: .* named 'no' \(at MODULE:1:10\)$/,
    ],
    ['that throws', '\n  throw new Error("out of order")', /: out of order \(at MODULE:2:9\)$/],
    ['that throws what is no error', 'throw null', /: null$/],
    ['that exits', 'process.exit(0)', /: its import ended the process with exit code 0; a module must not end the/],
    ['that kills its process', 'process.kill(process.pid, "SIGTERM")', /: its import ended the process by SIGTERM;/],
    [
      'that takes all memory',
      'for (const all = []; ; ) all.push(new Uint8Array(1 << 26).fill(1))',
      /: out of memory at its/,
    ],
    ['that loops', 'for (;;);', /: an endless loop or a wait at its top level: it is still importing after 5 s/],
    [
      'that waits in the kernel',
      'import { execSync } from "node:child_process"; execSync("sleep 1000")',
      /: an endless loop or a wait at its top level: it is still importing after 5 s/,
    ],
    [
      'that waits for a word',
      'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)',
      /: an endless loop or a wait at its top level: it is still importing after 5 s/,
    ],
    ['whose function loops', 'export default () => { for (;;); }', /: an endless loop or a wait at its top level/],
    ['without a default export', 'export const helper = {}', /: it has no default export/],
    ['that exports no helper', 'export default 7', /: a helper is an object with name, tuple and help\(\)$/],
    ['with a wrong name', 'export default { name: "X", tuple: { proto: "tcp" }, help() {} }', /: name "X": a letter/],
    ['whose function throws', 'export default () => { throw new Error("no port") }', /: no port \(at MODULE:1:30\)$/],
    ['whose import never ends', 'await new Promise(() => {}); export default 1', /: its import took longer than 2 s$/],
  ] as const
  for (const [what, text, reason] of modules)
    it(what, async ({ expect }) => {
      const module = text === '' ? join(folder, 'nowhere.mjs') : moduleOf(text)
      const { code, message } = await refusalOf(module)
      expect(code).toBe('HELPER_MODULE')
      expect(message).toContain(`the helper ${module} can't be loaded: `)
      expect(message.replaceAll(module, 'MODULE')).toMatch(reason)
    })
})

async function refusalOf(module: string, signal?: AbortSignal): Promise<HelperError> {
  const refusal = await tryHelper({ module, options: {}, load: 1 }, signal).catch((error: unknown) => error)
  return refusal as HelperError
}

describe('a process that can’t be made', () => {
  it('is the reason, however often it says so', async () => {
    const node = process.execPath
    process.execPath = join(folder, 'no-node')
    try {
      expect((await refusalOf(moduleOf(`export default ${HELPER}`))).message).toMatch(/: spawn .*no-node ENOENT$/)
      // The channel's own error comes later, and would end the process if nobody listened.
      await new Promise((resolve) => setImmediate(resolve))
    } finally {
      process.execPath = node
    }
  })

  it('is not asked for once the gateway stops', async () => {
    const { message } = await refusalOf(moduleOf('for (;;);'), AbortSignal.abort())
    expect(message).toMatch(/: the gateway stops$/)
  })
})

describe('a heap run full', () => {
  it('is told from what Node prints then', () => {
    const printed = 'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n'
    expect(endReason(printed, null, 'SIGABRT')).toBe('out of memory at its top level: its heap is over 256 MB')
  })
})

/** Command lines of the processes whose environment has this word. */
const processesOf = (word: string): string[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'utf8').includes(word) ? [pid] : []
      } catch {
        return []
      }
    })

describe('nothing is left of a trial', () => {
  it('that is ended because the gateway stops, also of what the module has started', async () => {
    const word = `NLT_TRIAL=${process.pid}`
    process.env.NLT_TRIAL = String(process.pid)
    const stop = new AbortController()
    const refusal = refusalOf(
      moduleOf('import { execSync } from "node:child_process"; execSync("sleep 1000")'),
      stop.signal,
    )
    const isTried = () => processesOf(word).length >= 2
    await eventually('the module runs', isTried)
    stop.abort()
    expect((await refusal).message).toMatch(/: the gateway stops$/)
    await eventually('all are gone', () => processesOf(word).length === 0)
    delete process.env.NLT_TRIAL
  })

  it('whose parent is killed', async () => {
    const word = `NLT_ORPHAN=${process.pid}`
    const trial = fileURLToPath(new URL('../../../dist/src/coordinator/helpers/helper-trial.js', import.meta.url))
    const flag = join(folder, 'is-tried')
    const module = moduleOf(`import { writeFileSync } from 'node:fs'; writeFileSync('${flag}', ''); for (;;);`)
    const parent = `
      import { existsSync } from 'node:fs'
      import { tryHelper } from '${trial}'
      setInterval(() => existsSync('${flag}') && process.kill(process.pid, 'SIGKILL'), 1)
      await tryHelper({ module: '${module}', options: {}, load: 1 })`
    const run = () =>
      execFileSync(process.execPath, ['--input-type=module', '-e', parent], {
        env: { ...process.env, NLT_ORPHAN: String(process.pid) },
      })
    expect(run).toThrow()
    expect(existsSync(flag)).toBe(true)
    await eventually('the trial is gone', () => processesOf(word).length === 0)
  })
})
