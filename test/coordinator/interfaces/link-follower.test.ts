// What is done after a report of the netlink watcher, in a story: which steps, in which order, and how often again.

import { beforeEach, describe, expect, it } from 'vitest'
import { Attempts } from '../../../src/coordinator/attempts.ts'
import { LinkFollower } from '../../../src/coordinator/interfaces/link-follower.ts'
import type { LinkReport } from '../../../src/host/host-tables.ts'
import { type Addr, formatAddress, parseAddress } from '../../../src/wire/address.ts'
import { Story } from '../story.ts'

const link = (name: string, index: number, but: Partial<LinkReport> = {}): LinkReport => ({
  name,
  present: index !== 0,
  index,
  enabled: true,
  up: true,
  ethernet: true,
  mtu: 1500,
  mac: '02:00:00:00:00:01',
  addresses: [{ address: parseAddress(`10.0.0.${index}`), prefixLength: 24, primary: true }],
  ...but,
})
const LAN = link('lan0', 2)
const WAN = link('wan0', 3)
const GONE = link('wan0', 0)

let story: Story
let attempts: Attempts
/** What was done, newest last. */
let done: string[]
let said: string[]
/** Which steps fail now. */
let failing: Set<string>
let follower: LinkFollower

function step(name: string, what: string): void {
  done.push(what)
  if (failing.has(name)) throw new Error('ENOMEM')
}

beforeEach(() => {
  story = new Story()
  done = []
  said = []
  failing = new Set()
  attempts = new Attempts({ error: (_: unknown, text: string) => said.push(text) } as never)
  follower = new LinkFollower({
    attempts,
    links: [LAN, WAN],
    inside: 1,
    followRules: () => step('rules', 'rules'),
    followAddress: (address: Addr | undefined, renewed) =>
      step('address', `${address === undefined ? 'none' : formatAddress(address)}${renewed ? ', made anew' : ''}`),
    bind: (port, { name }) => step(name, `bind ${port}`),
    timers: story,
  })
})

/** What is done meanwhile. */
function pass(milliseconds: number): string[] {
  done = []
  story.goOn(milliseconds)
  return done
}

describe('after a report', () => {
  it('everything is brought in line once: rules before the sockets', () => {
    follower.begin()
    follower.follow([LAN, WAN])
    const all = ['rules', '10.0.0.3', 'bind 0', 'bind 1']
    expect(done).toEqual([...all, ...all])
    expect(pass(3_600_000)).toEqual([])
  })

  it('the rules of an interface that was made anew are made again, once', () => {
    follower.follow([LAN, link('wan0', 7)])
    follower.follow([LAN, link('wan0', 7)])
    expect(done.filter((what) => what.startsWith('10.'))).toEqual(['10.0.0.7, made anew', '10.0.0.7'])
  })

  it('also where it was gone and is back under the same number', () => {
    follower.follow([LAN, { ...GONE, addresses: [] }])
    follower.follow([LAN, WAN])
    expect(done.filter((what) => /none|10/.test(what))).toEqual(['none', '10.0.0.3, made anew'])
  })

  it('but not where it was renamed and has its name again', () => {
    follower.follow([LAN, { ...GONE, renamedTo: 'wan9', addresses: [] }])
    follower.follow([LAN, WAN])
    expect(done.filter((what) => /none|10/.test(what))).toEqual(['none', '10.0.0.3'])
  })
})

describe('a step that fails', () => {
  for (const [fails, fault, part] of [
    ['rules', 'the nft rules could not follow the interfaces', 'rules'],
    ['address', 'the outside address and its rules could not be brought into force', 'addresses'],
    ['lan0', 'the packet sockets could not be bound to interface lan0 again', 'packet-sockets'],
  ] as const)
    it(`keeps no other from being taken, is a fault and is logged once: ${fails}`, () => {
      failing.add(fails)
      follower.follow([LAN, WAN])
      expect(done).toEqual(['rules', '10.0.0.3', 'bind 0', 'bind 1'])
      for (let i = 0; i < 9; i++) story.goOn(16_000)
      expect(attempts.faults()).toEqual([`${fault} (ENOMEM)`])
      expect(attempts.failing(part)).toBe(1)
      expect(said).toEqual([`${fault}, will be tried again`])
    })

  it('is tried again after 1, 2, 4, 8 and then every 16 seconds, until it succeeds', () => {
    failing.add('wan0')
    follower.follow([LAN, WAN])
    for (const seconds of [1, 2, 4, 8, 16, 16, 16]) {
      expect(pass(seconds * 1000 - 1)).toEqual([])
      expect(pass(1)).toContain('bind 1')
    }
    failing.clear()
    expect(pass(16_000)).toContain('bind 1')
    expect(attempts.faults()).toEqual([])
    expect(pass(3_600_000)).toEqual([])
  })

  it('is tried at once, and soon again, at the next report', () => {
    failing.add('wan0')
    follower.follow([LAN, WAN])
    for (const seconds of [1, 2, 4, 8]) story.goOn(seconds * 1000)
    done = []
    follower.follow([LAN, WAN])
    expect(done).toContain('bind 1')
    expect(pass(1000)).toContain('bind 1')
    expect(pass(1999)).toEqual([])
  })

  it('has the rules of an interface made anew again, and those of another one that is made anew meanwhile', () => {
    failing.add('address')
    follower.follow([LAN, link('wan0', 7)])
    failing.clear()
    expect(pass(1000)).toContain('10.0.0.7, made anew')
    follower.follow([link('lan0', 8), link('wan0', 7)])
    expect(done.at(-3)).toBe('10.0.0.7, made anew')
  })

  it('ends the start with what it throws, and the steps behind it are not taken', () => {
    failing.add('address')
    expect(() => follower.begin()).toThrow('ENOMEM')
    expect(done).toEqual(['rules', '10.0.0.3'])
    expect([said, attempts.faults()]).toEqual([[], []])
  })

  it('is tried no more after the stop', () => {
    failing.add('wan0')
    follower.follow([LAN, WAN])
    follower.stop()
    expect(pass(60_000)).toEqual([])
    follower.follow([LAN, WAN])
    expect(done).toEqual([])
  })
})
