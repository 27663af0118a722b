// The built-in helpers keep the contract, and are made by name.

import { describe, expect, it } from 'vitest'
import { BUILTIN } from '../../src/helpers/builtin.ts'
import { describeHelper } from '../contract/helper.ts'
import { FTP_ACTIVE, FTP_PASSIVE, FTP_PASSIVE_INSIDE, IRC_SESSION, TFTP_SESSION } from './dialogues.ts'

describeHelper('ftp', {
  make: BUILTIN.ftp!,
  sessions: [
    ['active', FTP_ACTIVE],
    ['passive', FTP_PASSIVE],
    ['passive, server inside', FTP_PASSIVE_INSIDE, { inside: 'server' }],
  ],
})
describeHelper('irc', { make: BUILTIN.irc!, sessions: [['offers of all kinds', IRC_SESSION]] })
describeHelper('tftp', { make: BUILTIN.tftp!, sessions: [['requests', TFTP_SESSION]] })

describe('the built-in helpers', () => {
  it('are named as they are listed', () => {
    expect(Object.entries(BUILTIN).map(([name, make]) => [name, make().name])).toEqual([
      ['ftp', 'ftp'],
      ['irc', 'irc'],
      ['tftp', 'tftp'],
    ])
  })

  it('say which options they have', () => {
    expect(() => BUILTIN.ftp!({ lose: true })).toThrow(
      'the helper ftp has no option "lose"; allowed: loose, privileged',
    )
    expect(() => BUILTIN.ftp!({ loose: 'yes' })).toThrow(
      'option loose is "yes", which is not allowed; allowed: true, false',
    )
    expect(() => BUILTIN.irc!({ loose: true })).toThrow('the helper irc has no option "loose"; allowed: privileged')
    expect(() => BUILTIN.tftp!({ loose: true })).toThrow('the helper tftp has no option "loose"; allowed: none')
    expect(BUILTIN.ftp!({ loose: true, privileged: false }).name).toBe('ftp')
  })
})
