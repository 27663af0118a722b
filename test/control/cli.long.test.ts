// The command as users and init systems call it: its exit codes, and what it writes to which stream.

import { describe, expect, it } from 'vitest'
import { natloom, temporaryFile } from './command.ts'

const TWO_INTERFACES = { NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0' }

describe('a configuration that is wrong ends `run` and `check` with exit code 2', () => {
  const wrong = [
    // variables                                            on standard error
    [{ ...TWO_INTERFACES, NATLOOM_WORKERS: '33' }, 'NATLOOM_WORKERS: 33 is not allowed; allowed: a whole number'],
    [{ ...TWO_INTERFACES, NATLOOM_DISPATCH: 'magic' }, 'NATLOOM_DISPATCH: "magic" is not allowed; allowed: kernel'],
    [{ NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'lan0' }, 'NATLOOM_OUTSIDE: lan0 is named inside, too'],
    [{ NATLOOM_INSIDE: 'lan0' }, 'outside: not set; set it in the file or by NATLOOM_OUTSIDE'],
    [
      { ...TWO_INTERFACES, NATLOOM_TIMEOUT_UDP: '3' },
      'NATLOOM_TIMEOUT_UDP: no such variable; the nearest is NATLOOM_TIMEOUTS_UDP',
    ],
  ] as const
  for (const command of ['run', 'check'])
    for (const [env, message] of wrong)
      it(`${command}: ${message}`, () => {
        const { status, stdout, stderr } = natloom([command], env)
        expect(stderr).toContain(`natloom: the configuration has a problem\n  ${message}`)
        expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
      })

  it('names the line of the file', () => {
    const file = temporaryFile('natloom.yaml', 'inside: [lan0]\noutside: [wan0]\nnat:\n  blockSize: 48\n')
    expect(natloom(['run', '--config', file])).toEqual({
      status: 2,
      stdout: '',
      stderr:
        'natloom: the configuration has a problem\n' +
        `  ${file}:4: nat.blockSize: 48 is not allowed; allowed: a power of two from 16 to 1024\n`,
    })
  })
})

describe('a plan of faults', () => {
  it('that makes no sense ends `run` with exit code 2, before the host is touched', () => {
    const { status, stderr } = natloom(['run'], { ...TWO_INTERFACES, NATLOOM_LAB_FAULTS: 'los=0.1' })
    expect(stderr).toContain('natloom: faults "los=0.1": there is no los, but loss, duplicate')
    expect(status).toBe(2)
  })
})

describe('a command line that is wrong ends with exit code 2', () => {
  const wrong = [
    [[], 'Usage: natloom'],
    [['walk'], "unknown command 'walk'"],
    [['run', '--fast'], "unknown option '--fast'"],
    [['check', '--config'], 'argument missing'],
    [['lab', 'no-such-scenario'], 'Allowed choices are forward, ftp'],
  ] as const
  for (const [args, message] of wrong)
    it(`natloom ${args.join(' ')}: ${message}`, () => {
      const { status, stdout, stderr } = natloom(args)
      expect(stderr).toContain(message)
      expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    })
})

describe('what is right ends with exit code 0 and speaks on standard output', () => {
  const right = [
    [['check'], 'inside: [ lan0 ] # NATLOOM_INSIDE'],
    [['check', '--schema'], '"$schema": "https://json-schema.org/draft/2020-12/schema"'],
    [['--version'], /^\d+\.\d+\.\d+\n$/],
    [['--help'], 'forward and translate'],
    [['run', '--help'], '--config'],
    [['lab', '--help'], /^Usage: natloom lab [\s\S]*scenarios:\n {2}forward/],
  ] as const
  for (const [args, said] of right)
    it(`natloom ${args.join(' ')}`, () => {
      const { status, stdout, stderr } = natloom(args, TWO_INTERFACES)
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
      expect(stdout).toMatch(said)
    })
})
