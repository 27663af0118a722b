// The command line of `natloom replay`: what it writes to which stream, and its exit codes.

import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { testFolder } from '../leftovers.ts'
import { ftpSession } from '../replay/story.ts'
import { natloom } from './command.ts'

const folder = testFolder('replay-command')
const capture = join(folder, 'session.pcap')
writeFileSync(capture, ftpSession().pcap)
afterAll(() => rmSync(folder, { recursive: true }))

describe('natloom replay', () => {
  it('writes events to standard output, and what it was to standard error', () => {
    const { status, stdout, stderr } = natloom(['replay', capture, '--events', '-'])
    expect(status).toBe(0)
    const events = stdout.trim().split('\n')
    expect(events.find((line) => line.includes('expect-new'))).toBe(
      '{"event":"expect-new","frame":10,"helper":"ftp","proto":"tcp","src":"192.0.2.7","sport":0,"dst":"10.0.0.5",' +
        '"dport":40000,"master":{"src":"10.0.0.5","sport":50003,"dst":"192.0.2.7","dport":21}}',
    )
    expect(stderr).toMatch(/session\.pcap: \d+ frames\n/)
    expect(stderr).toContain('expectations       2, 2 of them met')
  })

  it('writes them to a file, with a line for each packet if asked, through several shards', () => {
    const events = join(folder, 'events.jsonl')
    const { status } = natloom(['replay', capture, '--events', events, '--events-packets', '--workers', '2'])
    expect(status).toBe(0)
    expect(readFileSync(events, 'utf8').match(/"event":"packet"/g)!.length).toBe(ftpSession().frames.length)
  })

  it('asks the rules of --filter about each flow', () => {
    const rules = ['--filter', 'deny in related', '--filter', 'allow']
    const { status, stderr } = natloom(['replay', capture, ...rules])
    expect(stderr).toMatch(/dropped .*\b1 filter-denied/)
    expect(stderr).toContain('expectations       2, 1 of them met')
    expect(status).toBe(0)
  })

  const wrong = [
    [['--workers', '0'], '--workers "0" is not allowed; allowed: a whole number from 1 to 32'],
    [['--inside', '10.0.0.0/33'], '--inside "10.0.0.0/33" is not allowed; allowed: an IPv4 address, or a prefix'],
    [['--outside-address', 'me'], '--outside-address "me" is not allowed; allowed: an IPv4 address'],
    [['--helper', 'ftp=0'], '--helper "ftp=0" is not allowed; allowed: NAME or NAME=PORT'],
    [['--helper', 'gopher'], 'helper gopher: there is no helper gopher: ftp, irc, tftp'],
    [['--filter', 'deny tcp port 0'], '--filter deny tcp port 0: allowed: a port from 1 to 65535, or a range a-b'],
    [['--filter', 'forbid all'], '--filter forbid all: allowed: a rule such as "deny out tcp port 25"'],
    [['--events-packets'], 'but not where they go'],
    [['--out-inside', '/nowhere/x.pcap'], "/nowhere/x.pcap can't be written"],
  ] as const
  for (const [options, says] of wrong)
    it(`${options.join(' ')}: exit code 2, and what is allowed`, () => {
      const { status, stderr } = natloom(['replay', capture, ...options])
      expect(stderr).toContain(says)
      expect(status).toBe(2)
    })

  it('says where a capture is cut off, and what has happened before', () => {
    const file = join(folder, 'cut.pcap')
    const whole = readFileSync(capture)
    writeFileSync(file, whole.subarray(0, whole.length - 7))
    const { status, stdout, stderr } = natloom(['replay', file, '--events', '-'])
    expect(stderr).toMatch(/cut\.pcap is .*frame \d+/)
    expect(stdout.match(/"event":"expect-match"/g)).toHaveLength(2)
    expect(status).toBe(2)
  })

  it('says that an empty file is empty', () => {
    const file = join(folder, 'empty.pcap')
    writeFileSync(file, '')
    expect(natloom(['replay', file])).toMatchObject({ status: 2, stderr: expect.stringContaining('is empty') })
  })

  it('says what is wrong with a file', () => {
    const file = join(folder, 'not.pcap')
    writeFileSync(file, 'nothing of the kind')
    expect(natloom(['replay', file])).toMatchObject({ status: 2, stderr: expect.stringContaining('is no capture') })
  })
})
