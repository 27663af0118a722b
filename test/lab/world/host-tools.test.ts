import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { FTP_TOOLS, mayMakeNamespaces, missingTools, searchPath, TOOLS } from '../../../src/lab/world/host-tools.ts'

describe('tools of the host', () => {
  it('are found in the directories of the administrator, though an ordinary PATH lacks them', () => {
    expect(searchPath('/usr/bin:/bin')).toBe('/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin')
    expect(searchPath('/usr/sbin:/bin')).toBe('/usr/sbin:/bin:/usr/local/sbin:/sbin')
    expect(missingTools('/usr/bin:/bin')).toEqual([])
  })

  it('that are missing are named one by one, each with what to install', () => {
    expect(missingTools('/usr/bin:/bin', ['sh:dash', 'no-such-tool:no-such-package'])).toEqual([
      'no-such-tool is not installed: apt-get install no-such-package',
    ])
  })

  it('are the ones that deploy/prerequisites.sh installs', () => {
    const script = readFileSync(new URL('../../../deploy/prerequisites.sh', import.meta.url), 'utf8')
    for (const tool of [...TOOLS, ...FTP_TOOLS]) expect(script).toContain(tool)
  })

  it('may be files, where a package has no program', () => {
    expect(missingTools('', ['/etc/passwd:base-passwd', '/no/such/file:no-such-package'])).toEqual([
      '/no/such/file is not installed: apt-get install no-such-package',
    ])
  })
})

describe('the right to make namespaces', () => {
  const users = [
    // who                                  CapEff            may
    ['root', '000001ffffffffff', true],
    ['an ordinary user', '0000000000000000', false],
    ["a container's root", '00000000a80425fb', false],
    ['one who may only configure networks', '0000000000001000', false],
    ['one who may both configure and mount', '0000000000201000', true],
  ] as const
  for (const [who, capabilities, may] of users)
    it(`${who}: ${may ? 'yes' : 'no'}`, () => {
      expect(mayMakeNamespaces(`Name:\tnode\nCapEff:\t${capabilities}\n`)).toBe(may)
    })
})
