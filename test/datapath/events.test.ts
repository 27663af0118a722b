// What a shard tells while packets go through it: records of its event ring, in the words of this test.

import { describe, expect, it } from 'vitest'
import { EXPECT_ENDS, EXPECT_EVENT, FLOW_EVENT, PACKET_EVENT } from '../../src/conntrack/event-table.ts'
import { type Helper, Verdict } from '../../src/helpers/helper.ts'
import { ALL_BUT_PACKETS, EVENT, type EventReader, KIND } from '../../src/memory/event-ring.ts'
import { formatAddress, swap16 } from '../../src/wire/address.ts'
import { Gateway } from './gateway.ts'
import { Dialogue } from './helped/dialogue.ts'
import { EXTERNAL, HOST, LAN, SERVER } from './network.ts'
import { tcpSegment, udp } from './packets.ts'

async function told(reader: EventReader): Promise<string[]> {
  const lines: string[] = []
  const end = (address: number, port: number) => `${formatAddress(address)}:${swap16(port)}`
  reader.drain(
    (r, at) => {
      const word = (index: number) => r[at + index]!
      const tuple = (src: number) =>
        `${end(word(src), word(src + 2) & 0xffff)}>${end(word(src + 1), word(src + 2) >>> 16)}`
      const kind = word(KIND)
      if (kind === EVENT.flowNew || kind === EVENT.flowEnd) {
        const child = word(FLOW_EVENT.masterRow) === 0 ? '' : ' of a master'
        lines.push(`${kind === EVENT.flowNew ? 'new' : 'end'} ${tuple(FLOW_EVENT.origSrc)}${child}`)
      } else if (kind === EVENT.packet) {
        const [verdict, direction, info] = [PACKET_EVENT.verdict, PACKET_EVENT.direction, PACKET_EVENT.ctinfo].map(word)
        lines.push(`packet ${tuple(PACKET_EVENT.src)} verdict ${verdict} direction ${direction} info ${info}`)
      } else {
        const named = end(word(EXPECT_EVENT.savedAddress), word(EXPECT_EVENT.savedPort))
        const what = { [EVENT.expectNew]: 'expect', [EVENT.expectMatch]: 'match' }[kind]
        lines.push(`${what ?? EXPECT_ENDS[word(EXPECT_EVENT.cause)]} ${named}`)
      }
    },
    (lost) => lines.push(`${lost} lost`),
  )
  return lines
}

const out = udp(`${HOST}:5000`, `${SERVER}:53`)

describe('events of connections', () => {
  it('tell of their beginning and their end', async () => {
    const gateway = await Gateway.start()
    const reader = gateway.events()
    reader.want(ALL_BUT_PACKETS)
    gateway.inside(out)
    gateway.inside(out)
    expect(await told(reader)).toEqual([`new ${HOST}:5000>${SERVER}:53`])
    gateway.pass(400)
    expect(await told(reader)).toEqual([`end ${HOST}:5000>${SERVER}:53`])
  })

  it('are not written while nobody asks for them', async () => {
    const gateway = await Gateway.start()
    const reader = gateway.events()
    gateway.inside(out)
    expect(await told(reader)).toEqual([])
    reader.want(EVENT.flowEnd)
    gateway.inside(udp(`${HOST}:5001`, `${SERVER}:53`))
    expect(await told(reader)).toEqual([])
    gateway.pass(400)
    expect((await told(reader)).toSorted()).toEqual([`end ${HOST}:5000>${SERVER}:53`, `end ${HOST}:5001>${SERVER}:53`])
  })
})

describe('events of packets', () => {
  it('tell of the connection and the verdict, also of what was dropped', async () => {
    const gateway = await Gateway.start()
    const reader = gateway.events()
    reader.want(EVENT.packet)
    gateway.inside(tcpSegment(`${HOST}:5000`, `${SERVER}:80`, 'S'))
    expect(await told(reader)).toEqual([`packet ${HOST}:5000>${SERVER}:80 verdict -1 direction 0 info 2`])
    expect(gateway.fate(LAN, tcpSegment(`${HOST}:5001`, `${SERVER}:80`, 'R'))).toBe('tcp-no-connection')
    expect(await told(reader)).toEqual([
      `packet ${HOST}:5001>${SERVER}:80 verdict ${await number('tcp-no-connection')} direction -1 info -1`,
    ])
  })

  it('know the connection that a reset has ended', async () => {
    const gateway = await Gateway.start({ nat: { preservePorts: true } })
    const reader = gateway.events()
    reader.want(EVENT.packet)
    gateway.inside(tcpSegment(`${HOST}:20000`, `${SERVER}:80`, 'S'))
    gateway.outside(tcpSegment(`${SERVER}:80`, `${EXTERNAL}:20000`, 'RA'))
    expect((await told(reader)).at(-1)).toBe(`packet ${SERVER}:80>${EXTERNAL}:20000 verdict -1 direction 1 info 3`)
  })
})

const number = async (reason: string): Promise<number> => {
  const { DROP } = await import('../../src/counters/drop-reasons.ts')
  return DROP[reason as keyof typeof DROP]
}

describe('events of expectations', () => {
  const announcing: Helper = {
    name: 'announcing',
    tuple: { proto: 'tcp', dstPort: 21 },
    help(ctx) {
      for (const { text } of ctx.lines(() => false)) ctx.expect({ port: Number(text.slice('PORT '.length)) })
      return Verdict.Accept
    },
  }

  it('tell of the announcement before translation, then of the connection and its master', async () => {
    let reader!: EventReader
    const d = await Dialogue.begin({ nat: { preservePorts: true } }, async (gateway: Gateway) => {
      await gateway.help(announcing)
      reader = gateway.events()
      reader.want(ALL_BUT_PACKETS)
    })
    await told(reader)
    d.tell(d.client, 'PORT 20000\r\n')
    expect(await told(reader)).toEqual([`expect ${HOST}:20000`])
    d.gateway.outside(tcpSegment(`${SERVER}:20`, `${EXTERNAL}:20000`, 'S'))
    expect(await told(reader)).toEqual([`match ${HOST}:20000`, `new ${SERVER}:20>${EXTERNAL}:20000 of a master`])
    // Nothing comes of the first, since at most one may stand.
    d.tell(d.client, 'PORT 20002\r\n')
    d.tell(d.client, 'PORT 20004\r\n')
    expect(await told(reader)).toEqual([`expect ${HOST}:20002`, `evicted ${HOST}:20002`, `expect ${HOST}:20004`])
  })
})
