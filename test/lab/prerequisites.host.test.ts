import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const SCRIPT = fileURLToPath(new URL('../../deploy/prerequisites.sh', import.meta.url))

/** A user who is not root, on a host whose /usr/sbin is empty: nft and conntrack live there. */
const withoutAdministratorsTools = (what: string) =>
  spawnSync(
    'unshare',
    [
      '--user',
      '--map-root-user',
      '--mount',
      'sh',
      '-c',
      `mount -t tmpfs tmpfs /usr/sbin && exec unshare --user bash "$0" ${what}`,
      SCRIPT,
    ],
    { encoding: 'utf8', env: { PATH: '/usr/bin:/bin' } },
  )

describe('deploy/prerequisites.sh', () => {
  for (const what of ['lab', 'lab ftp', 'test'])
    it(`${what}: silent where nothing is missing`, () => {
      const { status, stdout, stderr } = spawnSync('bash', [SCRIPT, ...what.split(' ')], { encoding: 'utf8' })
      expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' })
    })

  it('names what is missing one by one, with the command that installs it, to a user who may not', () => {
    const { status, stdout, stderr } = withoutAdministratorsTools('test')
    expect(stdout).toBe('')
    expect(stderr).toContain("missing: nft, of Debian's package nftables\n")
    expect(stderr).toContain("missing: conntrack, of Debian's package conntrack\n")
    expect(stderr).toMatch(/^install with: apt-get install --no-install-recommends .*nftables.* conntrack/m)
    expect(status).toBe(3)
  })

  it('asks only for what its purpose needs', () => {
    expect(withoutAdministratorsTools('lab').stderr).not.toContain('conntrack')
  })

  it('asks for servers only where a scenario of the lab is asked for that has them', () => {
    expect(withoutAdministratorsTools('lab --workers 4').stderr).not.toContain('vsftpd')
    expect(withoutAdministratorsTools('lab --workers 4 ftp').stderr).toContain(
      "missing: vsftpd, of Debian's package vsftpd\n",
    )
  })

  it('knows three purposes', () => {
    const { status, stderr } = spawnSync('bash', [SCRIPT, 'everything'], { encoding: 'utf8' })
    expect(stderr).toMatch(/^usage: .*prerequisites\.sh lab\|test\|bench .*\n$/)
    expect(status).toBe(2)
  })
})
