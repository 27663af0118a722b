// The systemd unit, as systemd's own tool reads it. No systemd has to run for that.

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const UNIT = fileURLToPath(new URL('../../deploy/natloom.service', import.meta.url))
/** Ten times the exposure level that may not be exceeded. */
const EXPOSURE = 30

const analyze = (...args: string[]) => spawnSync('systemd-analyze', ['--no-pager', ...args], { encoding: 'utf8' })

/** The values of a setting, in order. */
const valuesOf = (setting: string): string[] =>
  readFileSync(UNIT, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith(`${setting}=`))
    .map((line) => line.slice(setting.length + 1))

/** The system calls of a set such as @network-io, those of the sets in it among them. */
function systemCalls(set: string): string[] {
  const { stdout } = analyze('syscall-filter', set)
  const entries = stdout.split('\n').filter((line) => /^ {4}[@a-z0-9_-]+$/.test(line))
  return entries.map((line) => line.trim()).flatMap((entry) => (entry.startsWith('@') ? systemCalls(entry) : [entry]))
}

/** What Node, koffi and natloom were seen to call, beside what every program does (strace). */
const NEEDED = [
  ...['socket', 'bind', 'setsockopt', 'sendmmsg', 'recvfrom', 'recvmsg', 'sendto', 'poll', 'eventfd2', 'accept4'],
  ...['mmap', 'mprotect', 'madvise', 'munmap', 'clone3', 'futex', 'epoll_pwait', 'wait4', 'execve', 'capget', 'fsync'],
  ...['sched_getaffinity', 'prlimit64', 'pkey_alloc', 'clock_gettime', 'getrandom', 'rename', 'unlink', 'getrusage'],
]

describe('the systemd unit', () => {
  it('has nothing that systemd doesn’t know', () => {
    const { status, stderr } = analyze('verify', '--man=no', UNIT)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  })

  it(`is exposed to ${EXPOSURE / 10} at the most`, () => {
    const { status, stdout } = analyze('security', '--offline=true', `--threshold=${EXPOSURE}`, UNIT)
    expect(stdout).toMatch(/Overall exposure level for natloom\.service: \d+\.\d/)
    expect({ status, stdout: stdout.split('\n').at(-2) }).toMatchObject({ status: 0 })
  })

  it('allows the system calls that natloom makes', () => {
    const allowed = new Set(systemCalls('@default'))
    for (const filter of valuesOf('SystemCallFilter'))
      for (const call of filter.replace('~', '').split(' ').flatMap(systemCalls))
        if (!filter.startsWith('~')) allowed.add(call)
        else if (!systemCalls('@default').includes(call)) allowed.delete(call)
    expect(NEEDED.filter((call) => !allowed.has(call))).toEqual([])
  })

  it('never forbids what V8 compiles at run time', () => {
    expect(valuesOf('MemoryDenyWriteExecute')).toEqual([])
  })

  it('tells systemd when it is up, and that it lives', () => {
    expect([valuesOf('Type'), valuesOf('NotifyAccess'), valuesOf('WatchdogSec')]).toEqual([
      ['notify'],
      ['main'],
      ['30'],
    ])
  })
})
