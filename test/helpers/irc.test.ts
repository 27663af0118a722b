// What the IRC helper rewrites and expects, and what it leaves alone. 167772165 is 10.0.0.5, 3405803777 is 203.0.113.1.

import { describe, expect, it } from 'vitest'
import type { Helper } from '../../src/helpers/helper.ts'
import { irc } from '../../src/helpers/irc.ts'
import type { ScriptOptions } from '../../src/testing/helper-script.ts'
import { client, type Dialogue, everyCut, IRC_LOGIN, IRC_SESSION, outcomeOf, play, server } from './dialogues.ts'

const helper = irc() as Helper
const shifted: ScriptOptions = { externalPort: (port) => port + 10_000 }

const loggedIn = (options: ScriptOptions = {}) => play(helper, IRC_LOGIN, options)
const ctcp = (text: string, to = 'bert') => `PRIVMSG ${to} :\x01${text}\x01\r\n`
const fromBert = (text: string) => `:bert!b@far.example PRIVMSG anna :\x01${text}\x01\r\n`

describe('IRC helper, client behind NAT, other ports outside', () => {
  const rewritten = [
    // the client sends                                          the server receives
    [ctcp('DCC SEND a.jpg 167772165 40000 512'), ctcp('DCC SEND a.jpg 3405803777 50000 512')],
    [ctcp('DCC SEND a.jpg 167772165 40000'), ctcp('DCC SEND a.jpg 3405803777 50000')],
    [ctcp('DCC SEND "a b c.jpg" 167772165 40000 512'), ctcp('DCC SEND "a b c.jpg" 3405803777 50000 512')],
    [ctcp('DCC SEND 1 167772165 40000 512'), ctcp('DCC SEND 1 3405803777 50000 512')],
    [ctcp('DCC CHAT chat 167772165 40000'), ctcp('DCC CHAT chat 3405803777 50000')],
    [ctcp('DCC SCHAT chat 167772165 40000'), ctcp('DCC SCHAT chat 3405803777 50000')],
    [ctcp('DCC MOVE a 167772165 40000'), ctcp('DCC MOVE a 3405803777 50000')],
    [ctcp('DCC TSEND a 167772165 40000 9'), ctcp('DCC TSEND a 3405803777 50000 9')],
    // The answer to a reverse offer is an offer with a token.
    [ctcp('DCC SEND a 167772165 40000 512 77'), ctcp('DCC SEND a 3405803777 50000 512 77')],
    // A client that has asked what it is seen as.
    [ctcp('DCC SEND a 3405803777 40000 512'), ctcp('DCC SEND a 3405803777 50000 512')],
    [ctcp('DCC SEND a 167772165 40000', '#channel,bert'), ctcp('DCC SEND a 3405803777 50000', '#channel,bert')],
    [
      'privmsg bert :\x01DCC SEND a 167772165 40000\x01\r\n', // any case, as servers read it
      'privmsg bert :\x01DCC SEND a 3405803777 50000\x01\r\n',
    ],
    [
      '@+draft/reply=1;label=PRIVMSG :anna!a@h NOTICE bert :\x01DCC SEND a 167772165 40000\x01\r\n',
      '@+draft/reply=1;label=PRIVMSG :anna!a@h NOTICE bert :\x01DCC SEND a 3405803777 50000\x01\r\n',
    ],
    ['PRIVMSG bert :\x01DCC SEND a 167772165 40000\n', 'PRIVMSG bert :\x01DCC SEND a 3405803777 50000\n'],
  ] as const
  for (const [sends, receives] of rewritten)
    it(`rewrites ${JSON.stringify(sends)} wherever it is cut, and expects anyone`, () => {
      const whole = loggedIn(shifted)
      expect(whole.client(sends)).toBe(receives)
      expect(whole.expected).toEqual([
        { from: 'anyone', protocol: 'tcp', to: '10.0.0.5:40000', told: '203.0.113.1:50000' },
      ])
      for (const cut of everyCut([['original', sends]]))
        expect(outcomeOf(play(helper, [...IRC_LOGIN, ...cut], shifted))).toEqual(outcomeOf(whole))
    })

  const leftAlone = [
    ctcp('DCC SEND a 167772169 40000 512'),
    ctcp('DCC SEND a 167772165 65536 512'),
    ctcp('DCC SEND a 167772165 1023 512'),
    ctcp('DCC SEND a 4462739461 40000 512'),
    ctcp('DCC SEND a 10.0.0.5 40000 512'),
    ctcp('DCC SEND a fe80::1 40000 512'),
    ctcp('DCC SEND a 167772165 40000x'),
    ctcp('DCC SEND a 167772165x 40000'),
    ctcp('DCC SEND a -167772165 40000'),
    ctcp('DCC SEND a 167772165'),
    ctcp('DCC SEND 167772165 40000'),
    ctcp('DCC SEND "a b 167772165 40000'),
    ctcp('DCC XSEND a 167772165 40000'),
    ctcp('DCC send a 167772165 40000'),
    ctcp('DCCX SEND a 167772165 40000'),
    ctcp('ACTION DCC SEND a 167772165 40000'),
    ctcp('DCC RESUME a 40000 12'),
    ctcp('DCC ACCEPT a 40000 12'),
    'PRIVMSG bert :DCC SEND a 167772165 40000\r\n',
    'PRIVMSG bert :see \x01DCC SEND a 167772165 40000\x01\r\n',
    'PRIVMSG bert \x01DCC SEND a 167772165 40000\x01\r\n',
    'PRIVMSG :\x01DCC SEND a 167772165 40000\x01\r\n',
    'TOPIC #c :\x01DCC SEND a 167772165 40000\x01\r\n',
    'PRIVMSG bert :x PRIVMSG bert :\x01DCC SEND a 167772165 40000\x01\r\n',
    ':x!x@x TOPIC PRIVMSG bert :\x01DCC SEND a 167772165 40000\x01\r\n',
    ctcp('DCC SEND a 167772165 40000').replace('\r\n', '\r'),
    '',
  ]
  for (const sends of leftAlone)
    it(`passes ${JSON.stringify(sends)} untouched and expects nothing, wherever it is cut`, () => {
      for (const cut of [[['original', sends]] as Dialogue, ...everyCut([['original', sends]])]) {
        const { toServer, expected } = outcomeOf(play(helper, [...IRC_LOGIN, ...cut], shifted))
        expect(toServer.endsWith(sends)).toBe(true)
        expect(expected).toEqual([])
      }
    })

  it('keeps eight offers, and lets the oldest go', () => {
    const script = loggedIn()
    for (let port = 40_000; port < 40_010; port++) script.client(ctcp(`DCC SEND a 167772165 ${port}`))
    expect(script.expected.map(({ to }) => to)).toEqual(Array.from({ length: 8 }, (_, i) => `10.0.0.5:${40_002 + i}`))
  })

  it('takes nothing that the server sends for an offer', () => {
    const script = loggedIn(shifted)
    const offer = fromBert('DCC SEND a 3221226087 4000 512')
    expect(script.server(offer)).toBe(offer)
    expect(script.everExpected).toEqual([])
  })

  it('passes an offer untouched when no port is to be had', () => {
    const script = loggedIn({ exhausted: true })
    const offer = ctcp('DCC SEND a 167772165 40000 512')
    expect(script.client(offer)).toBe(offer)
    expect(script.expected).toEqual([])
  })
})

describe('IRC helper, its option', () => {
  it('privileged: takes offers of ports below 1024', () => {
    const script = play(irc({ privileged: true }) as Helper, IRC_LOGIN)
    expect(script.client(ctcp('DCC SEND a 167772165 22'))).toBe(ctcp('DCC SEND a 3405803777 22'))
    expect(script.expected).toMatchObject([{ to: '10.0.0.5:22' }])
  })
})

describe('IRC helper, reverse offers', () => {
  it('rewrites the address of one, and expects nothing: who offers will connect', () => {
    const script = loggedIn(shifted)
    expect(script.client(ctcp('DCC SEND a 167772165 0 512 77'))).toBe(ctcp('DCC SEND a 3405803777 0 512 77'))
    expect(script.client(ctcp('DCC SEND a 167772169 0 512 77'))).toBe(ctcp('DCC SEND a 167772169 0 512 77'))
    expect(script.client(ctcp('DCC CHAT chat 3405803777 0 77'))).toBe(ctcp('DCC CHAT chat 3405803777 0 77'))
    expect(script.everExpected).toEqual([])
  })

  it('expects anyone when one is answered from inside', () => {
    const script = loggedIn(shifted)
    script.server(fromBert('DCC SEND a 3221226087 0 512 77'))
    expect(script.client(ctcp('DCC SEND a 167772165 40000 512 77'))).toBe(ctcp('DCC SEND a 3405803777 50000 512 77'))
    expect(script.expected).toMatchObject([{ from: 'anyone', to: '10.0.0.5:40000' }])
  })
})

describe('IRC helper, resumed transfers', () => {
  const resume = fromBert('DCC RESUME a.jpg 50000 4096')
  const accept = ctcp('DCC ACCEPT a.jpg 40000 4096')
  const offered = [...IRC_LOGIN, ['original', ctcp('DCC SEND a.jpg 167772165 40000 512')]] as Dialogue

  it('gives each side the port that it knows', () => {
    const script = play(helper, offered, shifted)
    expect(script.server(resume)).toBe(fromBert('DCC RESUME a.jpg 40000 4096'))
    expect(script.client(accept)).toBe(ctcp('DCC ACCEPT a.jpg 50000 4096'))
    expect(script.everExpected).toHaveLength(1)
  })

  it('does so wherever they are cut', () => {
    for (const cut of everyCut([
      ['reply', resume],
      ['original', accept],
    ])) {
      const script = play(helper, [...offered, ...cut], shifted)
      expect(script.edits.map(({ is }) => is)).toEqual(['3405803777 50000', '40000', '50000'])
    }
  })

  const leftAlone: Dialogue = [
    // Another port, the ports of somebody else's offer, none at all.
    ['reply', fromBert('DCC RESUME a.jpg 50001 4096')],
    ['reply', fromBert('DCC RESUME a.jpg 40000 4096')],
    ['reply', fromBert('DCC RESUME a.jpg 0 4096 77')],
    ['reply', fromBert('DCC RESUME a.jpg 50000x 4096')],
    ['reply', fromBert('DCC ACCEPT a.jpg 50000 4096')],
    ['original', ctcp('DCC ACCEPT a.jpg 50000 4096')],
    ['original', ctcp('DCC RESUME a.jpg 40000 4096')],
    ['reply', ':bert!b@far.example PRIVMSG anna :DCC RESUME a.jpg 50000 4096\r\n'],
  ]
  for (const said of leftAlone)
    it(`passes ${JSON.stringify(said)} untouched`, () => {
      const script = play(helper, offered, shifted)
      expect(script.say(...said)).toBe(said[1])
    })
})

describe('IRC helper, how a connection has to be', () => {
  const offer = ['original', ctcp('DCC SEND a 167772165 40000 512')] as const
  const greeting = server(':irc.example 001 anna :Welcome')

  const helped: readonly (readonly [string, Dialogue])[] = [
    ['NICK and USER', [client('NICK a', 'USER a 0 * :A'), greeting]],
    ['PASS', [client('PASS x'), greeting]],
    ['a PING of the server', [client('NICK a'), server('PING :123')]],
    ['a server that speaks first', [server('NOTICE AUTH :*** Looking up'), client('NICK a')]],
    ['empty lines', [client('', 'NICK a', ''), server('', ':irc.example 001 a')]],
    ['long lines', [client(`NICK a`, `PRIVMSG #c :${'x'.repeat(3000)}`), greeting]],
  ]
  for (const [name, before] of helped)
    it(`helps after ${name}`, () => {
      for (const cut of [before, ...everyCut(before)]) expect(play(helper, [...cut, offer]).expected).toHaveLength(1)
    })

  it('waits for the server to say something', () => {
    expect(play(helper, [client('NICK a'), offer]).everExpected).toEqual([])
    expect(play(helper, [client('NICK a'), offer, greeting, offer]).everExpected).toHaveLength(1)
  })

  const unhelped: readonly (readonly [string, Dialogue])[] = [
    ['a first line that is no registration', [client('JOIN #c', 'NICK a'), greeting]],
    ['a request of HTTP', [client('POST / HTTP/1.1', 'Host: x', '', 'NICK a'), greeting]],
    ['a request of HTTP by another method', [client('NICK / HTTP/1.1', 'Host: x:6667'), greeting]],
    ['a long request of HTTP', [client(`POST /${'x'.repeat(1000)} HTTP/1.1`, 'Host: x', '', 'NICK a'), greeting]],
    ['a long header', [client('NICK / HTTP/1.1', `Referer: ${'x'.repeat(1000)}`), greeting]],
    ['a server of HTTP', [server('HTTP/1.1 200 OK'), client('NICK a'), greeting]],
    ['a server of SSH', [server('SSH-2.0-x'), client('NICK a'), greeting]],
    ['TLS', [['original', '\x16\x03\x01\x02\x00\x01'], client('NICK a'), greeting]],
    ['endless tags', [['original', `@${'x'.repeat(600)}`], client('', 'NICK a'), greeting]],
  ]
  for (const [name, before] of unhelped)
    it(`ends the help at ${name}, for good`, () => {
      for (const cut of [before, ...[...everyCut(before.slice(0, 1))].map((first) => [...first, ...before.slice(1)])]) {
        const script = play(helper, [...cut, offer])
        expect(script.isDone).toBe(true)
        expect(script.everExpected).toEqual([])
        expect(script.received('original')).toBe(script.sent('original'))
      }
    })

  it('plays a whole session in any pieces', () => {
    const whole = outcomeOf(play(helper, IRC_SESSION, shifted))
    expect(whole.expected.map(({ to }) => to)).toEqual(['10.0.0.5:40000', '10.0.0.5:40001'])
    for (const cut of everyCut(IRC_SESSION)) expect(outcomeOf(play(helper, cut, shifted))).toEqual(whole)
  })
})

describe('IRC helper, what it holds', () => {
  const before = [...IRC_LOGIN, ['original', ctcp('DCC SEND a.jpg 167772165 40000 512')]] as Dialogue
  const held = [
    ['original', 'PRIV'],
    ['original', '@tag=1'],
    ['original', '@tag=1 :anna NOT'],
    ['original', 'PRIVMSG bert'],
    ['original', 'PRIVMSG bert :'],
    ['original', 'PRIVMSG bert :\x01DC'],
    ['original', 'PRIVMSG bert :\x01DCC TS'],
    ['original', 'PRIVMSG bert :\x01DCC SEND "a b'],
    ['original', 'PRIVMSG bert :\x01DCC SEND a 1677'],
    ['original', 'PRIVMSG bert :\x01DCC SEND a 167772165 40'],
    ['original', 'PRIVMSG bert :\x01DCC SEND a 167772165 40000 51'],
    ['original', 'PRIVMSG bert :\x01DCC ACCEPT a 40'],
    ['original', `PRIVMSG bert :\x01DCC SEND ${'a'.repeat(600)}`],
    ['reply', ':bert!b@f PRIVMSG anna :\x01DCC RESUME a 40'],
  ] as const
  const passed = [
    ['original', 'JOIN #c'],
    ['original', 'PRIVMSG bert :hel'],
    ['original', 'PRIVMSG bert :\x01VERSION'],
    ['original', 'PRIVMSG bert :\x01DCC X'],
    ['original', 'PRIVMSG bert :\x01DCC RESUME a'],
    ['original', 'PRIVMSG bert :\x01DCC SEND a b'],
    ['original', 'PRIVMSG bert :\x01DCC SEND a 167772165 70000'],
    ['reply', ':bert!b@f JOIN #c'],
    ['reply', ':bert!b@f PRIVMSG anna :\x01DCC SEND a'],
  ] as const
  for (const [who, bytes] of held)
    it(`holds ${JSON.stringify(bytes)}, until the sender closes`, () => {
      const script = play(helper, [...before, [who, bytes]])
      expect(script.held(who)).toBe(bytes)
      if (who === 'original') script.client('', true)
      else script.server('', true)
      expect(script.held(who)).toBe('')
    })
  for (const [who, bytes] of passed)
    it(`lets ${JSON.stringify(bytes.slice(0, 60))} go on at once`, () => {
      expect(play(helper, [...before, [who, bytes]]).held(who)).toBe('')
    })

  it('holds no message of the server before anything was offered', () => {
    expect(play(helper, [...IRC_LOGIN, ['reply', ':bert!b@f PRIVMSG anna :\x01DCC RES']]).held('reply')).toBe('')
  })
})
