// What an author or operator is told when Node doesn't take a file for a module: from what Node 20, 22 and 24 really
// say of it, and by running this Node. test/package/node-versions.host.test.ts does so with the others.

import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { formatFault } from '../../src/helpers/module-format.ts'
import { testFolder } from '../leftovers.ts'

const PATH = '/etc/natloom/parcel'
const NO_ENUM = 'TypeScript enum is not supported in strip-only mode'
const NEWER = 'run natloom by Node 22.18 or later'
const COMPILE = 'compile it and load the .js that comes of it'

/** An error as an import rejects with it. */
/** An error as an import rejects with it. */
function failure(
  make: ErrorConstructor,
  message: string,
  { code, stack }: { code?: string; stack?: string } = {},
): Error {
  const error = make(message)
  if (stack !== undefined) error.stack = stack
  return Object.assign(error, { code })
}

const TOLD: readonly (readonly [what: string, error: Error, told: string])[] = [
  [
    'TypeScript, for Node 20',
    failure(TypeError, `Unknown file extension ".ts" for ${PATH}.ts`, { code: 'ERR_UNKNOWN_FILE_EXTENSION' }),
    `${PATH}.ts is TypeScript, which Node 20.19.0 doesn't read: ${NEWER}, or ${COMPILE}`,
  ],
  [
    'a module that imports TypeScript, for Node 20',
    failure(TypeError, 'Unknown file extension ".mts" for /etc/natloom/lines.mts', {
      code: 'ERR_UNKNOWN_FILE_EXTENSION',
    }),
    `/etc/natloom/lines.mts is TypeScript, which Node 20.19.0 doesn't read: ${NEWER}, or ${COMPILE}`,
  ],
  [
    'a file of another kind',
    failure(TypeError, `Unknown file extension ".txt" for ${PATH}.txt`, { code: 'ERR_UNKNOWN_FILE_EXTENSION' }),
    `${PATH}.txt is no module by its name, which has to end in .js, .mjs or .ts`,
  ],
  [
    'TypeScript in a package',
    failure(Error, `Stripping types is currently unsupported for files under node_modules, for "${PATH}.ts"`, {
      code: 'ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING',
    }),
    `${PATH}.ts is TypeScript in node_modules, which Node doesn't read: load it from another folder, or ${COMPILE}`,
  ],
  [
    'TypeScript that must be compiled',
    failure(SyntaxError, NO_ENUM, {
      code: 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX',
      stack: `${PATH}.ts:3\nenum A { B }\n^^^^^^^^^^^^\n\nSyntaxError: ${NO_ENUM}\n`,
    }),
    `${NO_ENUM} (at ${PATH}.ts:3:1): Node only takes the types out of TypeScript. Write it without what has to be ` +
      `compiled (enum, namespace, parameter properties), or ${COMPILE}`,
  ],
  [
    'a module that needs natloom where it is not installed',
    failure(Error, `Cannot find package 'natloom' imported from ${PATH}.js`, { code: 'ERR_MODULE_NOT_FOUND' }),
    `${PATH}.js imports natloom, which is not installed in its folder, nor above: import types only (import type), ` +
      "and write verdicts as the words that they are ('drop')",
  ],
  [
    'TypeScript with a fault',
    failure(SyntaxError, "Expected ',', got 'ident'", {
      code: 'ERR_INVALID_TYPESCRIPT_SYNTAX',
      stack: `${PATH}.ts:3\n  name: "x"\n  tuple: 3\n  ^^^^^\n}\n\nSyntaxError: Expected ',', got 'ident'\n`,
    }),
    `Expected ',', got 'ident' (at ${PATH}.ts:3:3)`,
  ],
  [
    'an ES module in a package of CommonJS',
    failure(SyntaxError, "Unexpected token 'export'", {
      stack:
        `${PATH}.js:1\nexport default {}\n^^^^^^\n\nSyntaxError: Unexpected token 'export'\n` +
        '    at wrapSafe (node:internal/modules/cjs/loader:1464:18)\n',
    }),
    `${PATH}.js is an ES module, and Node reads it as CommonJS: name it .mjs, or write "type": "module" into the ` +
      'package.json of its folder',
  ],
  [
    'one that imports first, as Node 22 reads it',
    failure(SyntaxError, 'Cannot use import statement outside a module', {
      stack:
        `${PATH}.cjs:1\nimport 'x'\n^^^^^^\n\nSyntaxError: Cannot use import statement outside a module\n` +
        '    at loadCJSModule (node:internal/modules/esm/translators:127:25)\n',
    }),
    `${PATH}.cjs is an ES module, and Node reads it as CommonJS: name it .mjs, or write "type": "module" into the ` +
      'package.json of its folder',
  ],
]

const OTHERS: readonly (readonly [what: string, error: unknown])[] = [
  ['a syntax error', failure(SyntaxError, "Unexpected token '{'", { stack: 'SyntaxError: x\n    at node:internal\n' })],
  [
    'an export in the middle of an ES module',
    failure(SyntaxError, "Unexpected token 'export'", {
      stack: "SyntaxError: Unexpected token 'export'\n    at compile (node:internal/modules/esm/utils:1:1)\n",
    }),
  ],
  ['a module that is missing', failure(Error, `Cannot find module '${PATH}.js'`, { code: 'ERR_MODULE_NOT_FOUND' })],
  ['what a module throws', failure(Error, 'no')],
  ['what is no error', 'no'],
]

describe('of the format of a module', () => {
  for (const [what, error, told] of TOLD)
    it(`says what is wrong with ${what}`, () => expect(formatFault(error, { version: 'v20.19.0' })).toBe(told))
  for (const [what, error] of OTHERS) it(`says nothing of ${what}`, () => expect(formatFault(error)).toBeUndefined())
})

const LOAD = new URL('../../dist/src/helpers/load.js', import.meta.url).href
const HELPER = "export default { name: 'parcel', tuple: { proto: 'tcp', dstPort: 7777 }, help() {} }"

describe('loading by this Node', () => {
  const folder = testFolder('format')
  afterAll(() => rmSync(folder, { recursive: true }))
  const { features } = process
  const readsTypeScript = 'typescript' in features && features.typescript === 'strip'

  function loaded(name: string, text: string): string {
    const module = join(folder, name)
    mkdirSync(dirname(module), { recursive: true })
    writeFileSync(module, text)
    const load = `const { loadHelper } = await import('${LOAD}')
      const module = ${JSON.stringify(module)}
      const named = loadHelper({ module, options: {}, load: 1 }).then(({ name }) => name)
      console.log(await named.catch(({ message }) => message))`
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '--eval', load], { encoding: 'utf8' })
    return stdout.trim()
  }

  it('takes .js and .mjs', () => {
    expect(loaded('a.mjs', HELPER)).toBe('parcel')
    expect(loaded('a.js', HELPER)).toBe('parcel')
  })
  it('takes .ts, or says which Node does', () => {
    const text = HELPER.replace('help()', 'help(): void')
    if (readsTypeScript) expect(loaded('b.ts', text)).toBe('parcel')
    else expect(loaded('b.ts', text)).toMatch(/b\.ts is TypeScript, which Node \d+\.\d+\.\d+ doesn't read: run natloom/)
  })
  it('says what a file of another kind is', () =>
    expect(loaded('c.txt', '')).toMatch(/c\.txt is no module by its name/))
  it('says what a module needs that imports natloom by value', () => {
    expect(loaded('n.mjs', `import { Verdict } from 'natloom/helper'\n${HELPER}`)).toBe(
      `${folder}/n.mjs imports natloom, which is not installed in its folder, nor above: import types only ` +
        "(import type), and write verdicts as the words that they are ('drop')",
    )
  })
  it('says what an ES module is that is read as CommonJS', () => {
    loaded('cjs/package.json', '{ "type": "commonjs" }')
    expect(loaded('cjs/d.js', HELPER)).toBe(
      `${folder}/cjs/d.js is an ES module, and Node reads it as CommonJS: name it .mjs, or write "type": "module" ` +
        'into the package.json of its folder',
    )
    expect(loaded('cjs/e.js', `import 'node:os'\n${HELPER}`)).toMatch(/^\/\S+e\.js is an ES module/)
  })
})
