import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { helperFaults } from '../../../src/coordinator/helpers/helper-check.ts'
import { testFolder } from '../../leftovers.ts'

const HELPER = `{ name: 'parcel', tuple: { proto: 'tcp', dstPort: 9000 }, help() {} }`

it('tells of each helper why the start would refuse it, by the same code', async () => {
  const folder = testFolder('test')
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const module = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text)
    return join(folder, name)
  }
  const good = module('good.mjs', `export default ${HELPER}\n`)
  const twin = module('twin.mjs', `export default ${HELPER}\n`)
  const unclosed = module('unclosed.mjs', `export default {\n  name: 'x'\n  tuple: 1\n}\n`)
  const number = module('number.mjs', 'export default 3\n')
  const missing = join(folder, 'missing.mjs')

  const faults = await helperFaults([
    { module: 'ftp', options: { loose: true } },
    { module: good },
    { module: 'irc', options: { loose: true } },
    { module: 'irc', options: { privileged: 'yes' } },
    { module: 'tftp', options: { depth: 3 } },
    { module: missing },
    { module: unclosed },
    { module: number },
    { module: twin },
  ])
  const cannot = (of: string, why: string) => `the helper ${of} can't be loaded: ${why}`
  expect([...faults]).toEqual([
    [2, cannot('irc', 'the helper irc has no option "loose"; allowed: privileged')],
    [3, cannot('irc', 'option privileged is "yes", which is not allowed; allowed: true, false')],
    [4, cannot('tftp', 'the helper tftp has no option "depth"; allowed: none')],
    [5, cannot(missing, 'there is no such file')],
    [6, cannot(unclosed, `SyntaxError: Unexpected identifier 'tuple' (at ${unclosed}:3:3)`)],
    [7, cannot(number, 'a helper is an object with name, tuple and help()')],
    [8, 'there is a helper parcel already: unload it first, or leave one of them out'],
  ])
})
