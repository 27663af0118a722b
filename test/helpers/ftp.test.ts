// What the FTP helper rewrites and expects, and what it leaves alone.

import { describe, expect, it } from 'vitest'
import { ftp } from '../../src/helpers/ftp.ts'
import type { Helper } from '../../src/helpers/helper.ts'
import { Script, type ScriptOptions } from '../../src/testing/helper-script.ts'
import {
  client,
  type Dialogue,
  everyCut,
  FTP_ACTIVE,
  FTP_LOGIN,
  FTP_PASSIVE,
  FTP_PASSIVE_INSIDE,
  outcomeOf,
  play,
  type Said,
  server,
} from './dialogues.ts'

const helper = ftp() as Helper
const shifted = (port: number) => port + 10_000

const loggedIn = (options: ScriptOptions = {}, of = helper) => play(of, FTP_LOGIN, options)

/** For each cut of what is said, and a byte at a time: what comes of it. */
function cutEverywhere(said: Said, options: ScriptOptions, before: Dialogue = FTP_LOGIN, of = helper) {
  return [...everyCut([said])].map((pieces) => outcomeOf(play(of, [...before, ...pieces], options)))
}

describe('FTP helper, client behind NAT, with port preservation', () => {
  const rewritten = [
    // the client sends                  the server receives
    ['PORT 10,0,0,5,156,64\r\n', 'PORT 203,0,113,1,156,64\r\n'],
    ['port 10,0,0,5,156,64\r\n', 'port 203,0,113,1,156,64\r\n'],
    ['PORT 10,0,0,5,156,64\n', 'PORT 203,0,113,1,156,64\n'],
    ['PORT 010,00,0,005,156,064\r\n', 'PORT 203,0,113,1,156,64\r\n'],
    ['EPRT |1|10.0.0.5|40000|\r\n', 'EPRT |1|203.0.113.1|40000|\r\n'],
    ['eprt !1!10.0.0.5!40000!\r\n', 'eprt !1!203.0.113.1!40000!\r\n'],
    ['EPRT ~1~10.0.0.5~40000~\r\n', 'EPRT ~1~203.0.113.1~40000~\r\n'],
    ['EPRT A1A10.0.0.5A40000A\r\n', 'EPRT A1A203.0.113.1A40000A\r\n'],
  ] as const
  for (const [sends, receives] of rewritten) {
    it(`rewrites ${JSON.stringify(sends)} and expects the server`, () => {
      const script = loggedIn()
      expect(script.client(sends)).toBe(receives)
      expect(script.expected).toEqual([
        { from: 'server', protocol: 'tcp', to: '10.0.0.5:40000', told: '203.0.113.1:40000' },
      ])
    })

    it(`rewrites ${JSON.stringify(sends)} wherever it is cut`, () => {
      const whole = outcomeOf(play(helper, [...FTP_LOGIN, ['original', sends]]))
      for (const cut of cutEverywhere(['original', sends], {})) expect(cut).toEqual(whole)
    })
  }

  const leftAlone = [
    'PORT 10,0,0,9,156,64\r\n',
    'PORT 203,0,113,1,156,64\r\n',
    'PORT 10,0,0,5,256,64\r\n',
    'PORT 10,0,0,5,156,256\r\n',
    'PORT 266,0,0,5,156,64\r\n',
    'PORT 10,0,0,5,0,0\r\n',
    'PORT 10,0,0,5,3,255\r\n',
    'PORT 10,0,0,5,156\r\n',
    'PORT 10,0,0,5,156,64,1\r\n',
    'PORT 10,0,0,5,156,64 \r\n',
    'PORT 10,0,0,5,156,64\r',
    'PORT  10,0,0,5,156,64\r\n',
    'PORT x10,0,0,5,156,64\r\n',
    'PORT\t10,0,0,5,156,64\r\n',
    'PORT 10.0.0.5,156,64\r\n',
    'PORT 10,0,0,5,0156,64\r\n',
    'PORT -10,0,0,5,156,64\r\n',
    'PORT\r\n',
    'STOR PORT 10,0,0,5,156,64\r\n',
    'EPRT |2|fe80::1|40000|\r\n',
    'EPRT |2|10.0.0.5|40000|\r\n',
    'EPRT |1|10.0.0.9|40000|\r\n',
    'EPRT |1|10.0.0.5|0|\r\n',
    'EPRT |1|10.0.0.5|65536|\r\n',
    'EPRT |1|10.0.0.5|1023|\r\n',
    'EPRT |1|10.0.0.256|40000|\r\n',
    'EPRT |1|10.0.0.5|40000\r\n',
    'EPRT |1|10.0.0.5|40000|x\r\n',
    'EPRT |1|10.0.0.5!40000|\r\n',
    'EPRT 1110.0.0.51400001\r\n',
    'EPRT .1.10.0.0.5.40000.\r\n',
    'EPRT  1 10.0.0.5 40000 \r\n',
    'EPSV ALL\r\n',
    'LIST\r\n',
    '',
  ]
  for (const sends of leftAlone)
    it(`passes ${JSON.stringify(sends)} untouched and expects nothing, wherever it is cut`, () => {
      for (const { toServer, expected } of [
        outcomeOf(play(helper, [...FTP_LOGIN, ['original', sends]])),
        ...cutEverywhere(['original', sends], {}),
      ]) {
        expect(toServer.endsWith(sends)).toBe(true)
        expect(expected).toEqual([])
      }
    })

  it('takes several commands of one segment, and the last of them stands', () => {
    const script = loggedIn()
    const sends = 'TYPE I\r\nPORT 10,0,0,5,156,64\r\nLIST\r\nEPRT |1|10.0.0.5|40001|\r\nRETR a\r\n'
    expect(script.client(sends)).toBe(
      'TYPE I\r\nPORT 203,0,113,1,156,64\r\nLIST\r\nEPRT |1|203.0.113.1|40001|\r\nRETR a\r\n',
    )
    expect(script.everExpected.map(({ to }) => to)).toEqual(['10.0.0.5:40000', '10.0.0.5:40001'])
    expect(script.expected.map(({ to }) => to)).toEqual(['10.0.0.5:40001'])
  })

  it('does not rewrite a 227 of the server, but expects the client there', () => {
    const script = loggedIn()
    script.client('PASV\r\n')
    const reply = '227 Entering Passive Mode (192,0,2,7,195,80).\r\n'
    expect(script.server(reply)).toBe(reply)
    expect(script.expected).toEqual([
      { from: 'client', protocol: 'tcp', to: '192.0.2.7:50000', told: '192.0.2.7:50000' },
    ])
    expect(script.edits).toEqual([])
  })

  it('passes a PORT untouched when no port is to be had', () => {
    const script = loggedIn({ exhausted: true })
    expect(script.client('PORT 10,0,0,5,156,64\r\n')).toBe('PORT 10,0,0,5,156,64\r\n')
    expect(script.expected).toEqual([])
  })

  it('expects nothing before there was traffic both ways', () => {
    const script = loggedIn({ established: false })
    expect(script.client('PORT 10,0,0,5,156,64\r\n')).toBe('PORT 10,0,0,5,156,64\r\n')
    expect(script.everExpected).toEqual([])
  })
})

describe('FTP helper, without translation', () => {
  it('expects, and rewrites nothing', () => {
    for (const dialogue of [FTP_ACTIVE, FTP_PASSIVE]) {
      const script = play(helper, dialogue, { inside: 'none' })
      expect(script.everExpected).toHaveLength(2)
      expect(script.edits).toEqual([])
    }
  })
})

describe('FTP helper, server behind NAT, other ports outside', () => {
  const options: ScriptOptions = { inside: 'server', externalPort: shifted }
  const asked = [...FTP_LOGIN, client('PASV'), client('EPSV')]

  const rewritten = [
    // the server sends                                       the client receives
    ['227 Entering Passive Mode (10,0,0,5,117,48).\r\n', '227 Entering Passive Mode (203,0,113,1,156,64).\r\n'],
    ['227 Entering Passive Mode 10,0,0,5,117,48\r\n', '227 Entering Passive Mode 203,0,113,1,156,64\r\n'],
    ['227 =10,0,0,5,117,48\r\n', '227 =203,0,113,1,156,64\r\n'],
    ['227 Ok (10,0,0,5,117,48) go\n', '227 Ok (203,0,113,1,156,64) go\n'],
    ['229 Entering Extended Passive Mode (|||30000|)\r\n', '229 Entering Extended Passive Mode (|||40000|)\r\n'],
    ['229 (!!!30000!)\r\n', '229 (!!!40000!)\r\n'],
  ] as const
  for (const [sends, receives] of rewritten)
    it(`rewrites ${JSON.stringify(sends)} wherever it is cut, and expects the client`, () => {
      const whole = play(helper, asked, options)
      expect(whole.server(sends)).toBe(receives)
      expect(whole.expected).toEqual([
        { from: 'client', protocol: 'tcp', to: '10.0.0.5:30000', told: '203.0.113.1:40000' },
      ])
      for (const cut of cutEverywhere(['reply', sends], options, asked)) expect(cut).toEqual(outcomeOf(whole))
    })

  const leftAlone = [
    '227 Entering Passive Mode (10,0,0,9,117,48).\r\n',
    '227 Entering Passive Mode (10,0,0,5,256,48).\r\n',
    '227 Entering Passive Mode (10,0,0,5,3,255).\r\n',
    '227 Entering Passive Mode (10,0,0,5,117).\r\n',
    '227 Version 2 (10,0,0,5,117,48).\r\n',
    '227-Entering Passive Mode (10,0,0,5,117,48).\r\n227 End\r\n',
    '227-Entering\r\n227 (10,0,0,5,117,48)\r\n',
    '220-Hello\r\n227 (10,0,0,5,117,48)\r\n220 End\r\n',
    '211-Status\r\n 227 (10,0,0,5,117,48)\r\n229 (|||30000|)\r\n211 End\r\n',
    ' 227 (10,0,0,5,117,48)\r\n',
    '2270 (10,0,0,5,117,48)\r\n',
    '227(10,0,0,5,117,48)\r\n',
    '229 Entering |||30000|\r\n',
    '229 (|||30000)\r\n',
    '229 (||30000|)\r\n',
    '229 (|||30000!)\r\n',
    '229 (|||1023|)\r\n',
    '229 (|||65536|)\r\n',
    '229 (1113000011)\r\n',
    '229 (|1|10.0.0.5|30000|)\r\n',
    `227 ${'x'.repeat(600)}\r\n`,
    '200 (10,0,0,5,117,48)\r\n',
  ]
  for (const sends of leftAlone)
    it(`passes ${JSON.stringify(sends.slice(0, 60))} untouched and expects nothing, wherever it is cut`, () => {
      for (const { toClient, expected } of [
        outcomeOf(play(helper, [...asked, ['reply', sends]], options)),
        ...cutEverywhere(['reply', sends], options, asked),
      ]) {
        expect(toClient.endsWith(sends)).toBe(true)
        expect(expected).toEqual([])
      }
    })

  it('takes a 227 or 229 only if it was asked for, once for each time', () => {
    const passive = '227 Entering Passive Mode (10,0,0,5,117,48).\r\n'
    const script = loggedIn(options)
    script.server(passive)
    expect(script.everExpected).toEqual([])
    script.client('EPSV\r\nEPSV 2\r\nEPSV ALL\r\n')
    script.server(passive)
    expect(script.everExpected).toEqual([])
    script.server('229 (|||30000|)\r\n229 (|||30001|)\r\n')
    expect(script.everExpected.map(({ to }) => to)).toEqual(['10.0.0.5:30000'])
    script.client('CPSV\r\nPASV \r\n')
    for (let i = 0; i < 3; i++) script.server(passive)
    expect(script.everExpected).toHaveLength(3)
  })

  it('does not rewrite a PORT of the client, but expects the server there', () => {
    const script = loggedIn(options)
    expect(script.client('PORT 198,51,100,9,156,64\r\n')).toBe('PORT 198,51,100,9,156,64\r\n')
    expect(script.expected).toMatchObject([{ from: 'server', to: '198.51.100.9:40000' }])
  })

  it('plays a whole session in any pieces', () => {
    const whole = outcomeOf(play(helper, FTP_PASSIVE_INSIDE, options))
    expect(whole.edits.map(({ is }) => is)).toEqual(['203,0,113,1,234,96', '60002'])
    for (const cut of everyCut(FTP_PASSIVE_INSIDE)) expect(outcomeOf(play(helper, cut, options))).toEqual(whole)
  })
})

describe('FTP helper, its options', () => {
  it('privileged: takes ports below 1024', () => {
    const script = loggedIn({}, ftp({ privileged: true }) as Helper)
    expect(script.client('PORT 10,0,0,5,3,255\r\n')).toBe('PORT 203,0,113,1,3,255\r\n')
    expect(script.expected).toMatchObject([{ to: '10.0.0.5:1023' }])
  })

  it('loose: expects the client at the address that a server outside names, and nobody at that of anyone else', () => {
    const loose = ftp({ loose: true }) as Helper
    const script = play(loose, [...FTP_LOGIN, client('PASV'), server('227 (192,0,2,99,195,80)')])
    expect(script.expected).toMatchObject([{ from: 'client', to: '192.0.2.99:50000' }])
    expect(script.client('PORT 10,0,0,9,156,64\r\n')).toBe('PORT 10,0,0,9,156,64\r\n')
    expect(script.everExpected).toHaveLength(1)

    const inside = play(loose, [...FTP_LOGIN, client('PASV'), server('227 (10,0,0,9,195,80)')], { inside: 'server' })
    expect(inside.everExpected).toEqual([])
  })
})

describe('FTP helper, how a control connection has to be', () => {
  const announces: Said = client('PORT 10,0,0,5,156,64')

  const helped: readonly (readonly [string, Dialogue])[] = [
    ['a greeting', [server('220 hi')]],
    ['a greeting of several lines', [server('220-hi', '120 PORT', '', '220 there')]],
    ['a greeting that was late', [server('120 Ready in 3 minutes', '220 hi')]],
    ['Telnet signals before a command', [server('220 hi'), ['original', '\xff\xf4\xff\xf2ABOR\r\n']]],
    ['experimental commands', [server('220 hi'), client('XCRC a.txt', 'xpwd')]],
    ['a long command', [server('220 hi'), client(`RETR ${'a'.repeat(3000)}`)]],
    ['commands cut anywhere', [server('220 hi'), ['original', 'US'], ['original', 'ER PORT'], ['original', ' x\r\n']]],
  ]
  for (const [name, before] of helped)
    it(`helps after ${name}`, () => {
      expect(play(helper, [...before, announces]).expected).toHaveLength(1)
    })

  const unhelped: readonly (readonly [string, Dialogue])[] = [
    ['a client that speaks first', [client('USER a'), server('220 hi')]],
    ['a client that speaks first, a byte', [['original', 'U'], server('220 hi'), client('SER a')]],
    ['no greeting', [server('HTTP/1.1 200 OK')]],
    ["another protocol's greeting", [server('SSH-2.0-OpenSSH_9.2')]],
    ['a POP3 greeting', [server('+OK 220 ready')]],
    ['a refusal', [server('421 Too many connections')]],
    ['a request of HTTP', [server('220 hi'), client('POST / HTTP/1.1', 'Host: x')]],
    ['a request of HTTP by another method', [server('220 hi'), client('USER / HTTP/1.1', 'Host: x')]],
    ['mail', [server('220 hi'), client('EHLO x')]],
    ['IRC', [server('220 hi'), client('NICK x')]],
    ['TLS', [server('220 hi'), ['original', '\x16\x03\x01\x02\x00\x01']]],
    ['TLS, asked for', [server('220 hi'), client('AUTH TLS'), server('234 Go'), ['original', '\x16\x03\x01\x02\x00']]],
    ['an empty line', [server('220 hi'), client('')]],
    ['a line that begins with a blank', [server('220 hi'), client(' USER x')]],
    ['a word of eleven letters', [server('220 hi'), client('XABCDEFGHIJ')]],
  ]
  for (const [name, before] of unhelped)
    it(`ends the help at ${name}, for good`, () => {
      for (const cut of [before, ...everyCut(before)]) {
        const script = play(helper, [...cut, announces])
        expect(script.isDone).toBe(true)
        expect(script.everExpected).toEqual([])
        expect(script.received('original')).toBe(script.sent('original'))
        expect(script.received('reply')).toBe(script.sent('reply'))
      }
    })

  it('plays whole sessions in any pieces', () => {
    for (const dialogue of [FTP_ACTIVE, FTP_PASSIVE]) {
      const whole = outcomeOf(play(helper, dialogue, { externalPort: shifted }))
      expect(whole.expected).toHaveLength(2)
      for (const cut of everyCut(dialogue))
        expect(outcomeOf(play(helper, cut, { externalPort: shifted }))).toEqual(whole)
    }
  })
})

describe('FTP helper, what it holds', () => {
  const held = [
    ['original', 'P'],
    ['original', 'PORT'],
    ['original', 'PORT 10,0,0,5,15'],
    ['original', 'PORT 10,0,0,5,156,64'],
    ['original', 'PORT 10,0,0,5,156,64\r'],
    ['original', 'EPRT |'],
    ['original', 'EPRT |1|10.0'],
    ['original', 'EPRT |1|10.0.0.5|40000|'],
    ['original', 'EPSV 1'],
    ['reply', '22'],
    ['reply', '227 Entering Passive Mode (192,0'],
    ['reply', '229 Entering (|||50'],
    ['reply', `227 ${'x'.repeat(600)}`],
  ] as const
  const passed = [
    ['original', 'PORT x'],
    ['original', 'PORT 10,0,0,5,300'],
    ['original', 'PORT 10,,'],
    ['original', 'PORT 10,0,0,5,156,64x'],
    ['original', 'EPRT |2'],
    ['original', 'EPRT |1|10.0.0.5.'],
    ['original', 'EPRT |1|10.0.0.5|70000'],
    ['original', 'RETR a'],
    ['original', 'EPSV A'],
    ['reply', '226 '],
    ['reply', '22x'],
    ['reply', '227 Entering Passive Mode (192,0,2,7,1,2,'],
    ['reply', '229 Entering (|||50002x'],
  ] as const
  const before = [...FTP_LOGIN, client('PASV'), client('EPSV')]
  for (const [who, bytes] of held)
    it(`holds ${JSON.stringify(bytes)}, until the sender closes`, () => {
      const script = play(helper, [...before, [who, bytes]])
      expect(script.held(who)).toBe(bytes)
      if (who === 'original') script.client('', true)
      else script.server('', true)
      expect(script.held(who)).toBe('')
      expect(script.received(who)).toBe(script.sent(who))
    })
  for (const [who, bytes] of passed)
    it(`lets ${JSON.stringify(bytes.slice(0, 60))} go on at once`, () => {
      expect(play(helper, [...before, [who, bytes]]).held(who)).toBe('')
    })

  it('holds no 227 that nobody has asked for', () => {
    expect(play(helper, [...FTP_LOGIN, ['reply', '227 Entering']]).held('reply')).toBe('')
  })

  it('holds nothing of a client before the greeting', () => {
    expect(new Script(helper).client('PORT')).toBe('PORT')
  })
})
