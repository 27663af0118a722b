// The helpers in a gateway: what the scripts say of them holds for real packets, and what they announce comes through.

import { beforeAll, describe, expect, it } from 'vitest'
import { BUILTIN } from '../../src/helpers/builtin.ts'
import { LAN, SERVER, WAN } from '../datapath/network.ts'
import { decode, fromOf, tcpSegment, toOf, udp } from '../datapath/packets.ts'
import { connectionsOf } from '../datapath/tables.ts'
import {
  client,
  type Dialogue,
  everyCut,
  FTP_ACTIVE,
  FTP_LOGIN,
  FTP_PASSIVE,
  FTP_PASSIVE_INSIDE,
  IRC_LOGIN,
  IRC_SESSION,
  inPieces,
  outcomeOf,
  play,
  type Said,
  server,
  TFTP_SESSION,
} from './dialogues.ts'
import { type GatewayScript, type HelpedGateway, type Inside, LONGEST } from './gateway-script.ts'
import { helpedGateway, type TestGateway } from './helped-gateway.ts'
import { faultsOf, mutated, randomOf, recut } from './mutations.ts'

const MUTANTS = 60
/** Every how many-th cut of a session: all of them are played by scripts. */
const CUT_STEP = 20

const SESSIONS: readonly (readonly [string, string, Dialogue, Inside])[] = [
  ['active FTP', 'ftp', FTP_ACTIVE, 'client'],
  ['passive FTP', 'ftp', FTP_PASSIVE, 'client'],
  ['passive FTP, server inside', 'ftp', FTP_PASSIVE_INSIDE, 'server'],
  ['IRC', 'irc', IRC_SESSION, 'client'],
  ['TFTP', 'tftp', TFTP_SESSION, 'client'],
]

/** Segments of a size that goes through, none of them empty. */
const segments = (dialogue: Dialogue): Dialogue =>
  dialogue.flatMap((said: Said) =>
    inPieces(
      said,
      Array.from({ length: said[1].length / LONGEST }, () => LONGEST),
    ).filter(([, bytes]) => bytes !== ''),
  )

/** What comes before anybody inside has asked is let in by no NAT. */
const askedFirst = (dialogue: Dialogue): Dialogue =>
  dialogue.filter((_, i) => dialogue.slice(0, i + 1).some(([who]) => who === 'original'))

function through(gateway: HelpedGateway<TestGateway>, dialogue: Dialogue): GatewayScript {
  const script = gateway.connect()
  for (const [who, bytes] of dialogue) script.say(who, bytes)
  return script
}

describe.each(SESSIONS)('%s through a gateway', (_, name, session, inside) => {
  const helper = BUILTIN[name]!()
  let gateway: HelpedGateway<TestGateway>
  beforeAll(async () => {
    gateway = await helpedGateway(helper, inside)
  })

  function agrees(dialogue: Dialogue): void {
    const wire = through(gateway, dialogue)
    const script = play(helper, dialogue, { inside, clientPort: wire.clientPort })
    expect(outcomeOf(wire)).toEqual(outcomeOf(script))
    expect(wire.mostHeld).toBe(script.mostHeld)
    expect(faultsOf(wire)).toEqual([])
    wire.close()
  }

  it('is what its script says, whole and cut', () => {
    agrees(session)
    const cuts = [...everyCut(session)]
    for (let i = 0; i < cuts.length; i += CUT_STEP) if (helper.tuple.proto === 'tcp') agrees(cuts[i]!)
    gateway.gateway.check()
  })

  it('is what its script says, mutated', () => {
    for (let seed = 0; seed < MUTANTS; seed++) {
      const random = randomOf(seed)
      const mutant = mutated(session, random)
      agrees(segments(helper.tuple.proto === 'tcp' ? recut(mutant, random) : askedFirst(mutant)))
    }
    gateway.gateway.check()
  })

  it('leaves nothing expected when it is over', () => {
    through(gateway, session).close()
    expect(gateway.gateway.expectations.count()).toBe(0)
    expect(connectionsOf(gateway.gateway.tables)).toEqual([])
  })
})

describe('a connection that its helper has left', () => {
  it('takes what it expects with it when it ends', async () => {
    const helped = await helpedGateway(BUILTIN.ftp!())
    const script = through(helped, [...FTP_LOGIN, client('EPSV'), server('229 (|||50002|)'), client('no command')])
    expect(helped.gateway.expectations.count()).toBe(1)
    script.close()
    expect(helped.gateway.expectations.count()).toBe(0)
    helped.gateway.check()
  })
})

describe('what they announce comes through', () => {
  const start = async (name: string, dialogue: Dialogue, inside: Inside = 'client') => {
    const helped = await helpedGateway(BUILTIN[name]!(), inside)
    const { everExpected } = through(helped, dialogue)
    return { gateway: helped.gateway, told: everExpected.at(-1)!.told }
  }

  const isRelated = (gateway: TestGateway, from: string): boolean => {
    const all = connectionsOf(gateway.tables)
    const child = all.find(({ original }) => original.startsWith(from))!
    return child.expected && all.some(({ row }) => row === child.master?.row)
  }

  it('active FTP: the server, to the client, once', async () => {
    const { gateway, told } = await start('ftp', [...FTP_LOGIN, client('PORT 10,0,0,5,156,64')])
    expect(gateway.fate(WAN, tcpSegment('192.0.2.99:20', told, 'S'))).toBe('no-mapping')
    const [syn] = gateway.outside(tcpSegment(`${SERVER}:20`, told, 'S'))
    expect(toOf(syn!)).toBe('10.0.0.5:40000')
    expect(fromOf(gateway.inside(tcpSegment('10.0.0.5:40000', `${SERVER}:20`, 'SA'))[0]!)).toBe(told)
    expect(isRelated(gateway, `${SERVER}:20`)).toBe(true)
    gateway.check()
  })

  it('passive FTP: the client, to the server', async () => {
    const { gateway, told } = await start('ftp', [...FTP_LOGIN, client('EPSV'), server('229 (|||50002|)')])
    expect(told).toBe(`${SERVER}:50002`)
    const [syn] = gateway.inside(tcpSegment('10.0.0.5:7000', told, 'S'))
    expect(toOf(syn!)).toBe(told)
    expect(isRelated(gateway, '10.0.0.5:7000')).toBe(true)
    gateway.check()
  })

  it('passive FTP, server inside: the client, to the server', async () => {
    const dialogue = [...FTP_LOGIN, client('PASV'), server('227 Entering Passive Mode (10,0,0,5,195,80).')]
    const { gateway, told } = await start('ftp', dialogue, 'server')
    const [syn] = gateway.outside(tcpSegment('198.51.100.9:7000', told, 'S'))
    expect(toOf(syn!)).toBe('10.0.0.5:50000')
    expect(isRelated(gateway, '198.51.100.9:7000')).toBe(true)
    expect(gateway.fate(WAN, tcpSegment('198.51.100.10:7000', told, 'S'))).not.toBe('sent')
    gateway.check()
  })

  it('active FTP, server inside: the server, to the client', async () => {
    const { gateway, told } = await start('ftp', [...FTP_LOGIN, client('PORT 198,51,100,9,156,64')], 'server')
    expect(told).toBe('198.51.100.9:40000')
    const [syn] = gateway.inside(tcpSegment('10.0.0.5:20', told, 'S'))
    expect(toOf(syn!)).toBe(told)
    expect(isRelated(gateway, '10.0.0.5:20')).toBe(true)
    gateway.check()
  })

  it('IRC: anyone, to who offers', async () => {
    const offer = client('PRIVMSG bert :\x01DCC SEND a 167772165 40000 512\x01')
    const { gateway, told } = await start('irc', [...IRC_LOGIN, offer])
    const [syn] = gateway.outside(tcpSegment('198.51.100.77:1025', told, 'S'))
    expect(toOf(syn!)).toBe('10.0.0.5:40000')
    expect(isRelated(gateway, '198.51.100.77:1025')).toBe(true)
    gateway.check()
  })

  it('TFTP: the server, from another port, to the port that asked', async () => {
    const { gateway, told } = await start('tftp', TFTP_SESSION.slice(0, 1))
    expect(gateway.fate(WAN, udp('192.0.2.99:2000', told))).not.toBe('sent')
    const [data] = gateway.outside(udp(`${SERVER}:2000`, told, { payload: '\0\x03\0\x01data' }))
    expect(decode(data!)).toMatchObject({ src: SERVER, sport: 2000, dst: '10.0.0.5' })
    const asked = toOf(data!)
    expect(isRelated(gateway, `${SERVER}:2000`)).toBe(true)
    expect(fromOf(gateway.inside(udp(asked, `${SERVER}:2000`, { payload: '\0\x04\0\x01' }))[0]!)).toBe(told)
    expect(gateway.fate(LAN, udp(asked, `${SERVER}:2000`, { payload: '\0\x04\0\x02' }))).toBe('sent')
    gateway.check()
  })
})
