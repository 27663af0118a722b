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
    expect(() => BUILTIN.ftp!({ lose: true })).toThrow('helper ftp has no option "lose": it has loose and privileged')
    expect(() => BUILTIN.ftp!({ loose: 'yes' })).toThrow('helper ftp, option loose: true or false')
    expect(() => BUILTIN.irc!({ loose: true })).toThrow('helper irc has no option "loose": it has privileged')
    expect(() => BUILTIN.tftp!({ loose: true })).toThrow('helper tftp has no option "loose": it has none')
    expect(BUILTIN.ftp!({ loose: true, privileged: false }).name).toBe('ftp')
  })
})
