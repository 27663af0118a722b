// The tutorial of src/helpers/README.md: its code, as it stands there, is a helper that works and keeps the contract.

import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { Helper } from '../../src/helpers/helper.ts'
import { Script } from '../../src/testing/helper-script.ts'
import { describeHelper } from '../contract/helper.ts'
import { tcpSegment, toOf } from '../datapath/packets.ts'
import { testFolder } from '../leftovers.ts'
import { client, type Dialogue, everyCut, outcomeOf, play, server } from './dialogues.ts'
import { helpedGateway } from './helped-gateway.ts'

const readme = readFileSync(new URL('../../src/helpers/README.md', import.meta.url), 'utf8')
const [code = '', story = ''] = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map(([, block]) => block!)

const folder = testFolder('tutorial')
const file = join(folder, 'parcel.mjs')
writeFileSync(file, code)
afterAll(() => rmSync(folder, { recursive: true }))
const { default: parcel } = (await import(/* @vite-ignore */ file)) as { default: Helper }

const greeting = server('PARCEL 1')
const deliver = client('DELIVER book TO 10.0.0.5:40000')

describe('the tutorial', () => {
  it('is a helper of about sixty lines', () => {
    expect(code.startsWith('// parcel.js')).toBe(true)
    expect(code.split('\n').length).toBeLessThan(70)
  })

  it('is right about what comes of its test', () => {
    const results = story.matchAll(/^(const script = .*|script\.\S+.*?)(?: \/\/ (.*))?$/gm)
    const run = new Function(
      'Script',
      'parcel',
      'expect',
      [...results]
        .map(([, statement, result]) => (result ? `expect(${statement}).toEqual(${result})` : statement))
        .join('\n'),
    )
    run(Script, parcel, expect)
    expect(story.match(/ \/\/ /g)).toHaveLength(2)
  })

  const unhelped: readonly (readonly [string, Dialogue])[] = [
    ['a request of HTTP', [greeting, client('POST / HTTP/1.1', 'Host: x', ''), deliver]],
    ['a client that speaks first', [client('LIST'), greeting, deliver]],
    ['another greeting', [server('HTTP/1.1 200 OK'), greeting, deliver]],
  ]
  for (const [name, dialogue] of unhelped)
    it(`expects nothing after ${name}`, () => {
      for (const cut of [dialogue, ...everyCut(dialogue)]) expect(play(parcel, cut).everExpected).toEqual([])
    })

  it('leaves the address of somebody else alone', () => {
    const script = play(parcel, [greeting])
    const line = 'DELIVER book TO 10.0.0.9:40000\r\n'
    expect(script.client(line)).toBe(line)
    expect(script.everExpected).toEqual([])
  })
})

const SESSIONS = [
  ['one parcel', [greeting, client('LIST'), server('BOOK', 'LAMP'), deliver, server('SENT'), client('QUIT')]],
  ['two parcels', [greeting, deliver, client('DELIVER lamp TO 10.0.0.5:40001'), server('SENT', 'SENT')]],
] as const

describeHelper('the tutorial', { make: () => parcel, sessions: SESSIONS })

describe('the tutorial in a gateway', () => {
  for (const [name, session] of SESSIONS)
    it(`${name}: is what its script says, and the server comes through`, async () => {
      const helped = await helpedGateway(parcel)
      const wire = helped.connect()
      for (const [who, bytes] of session) wire.say(who, bytes)
      expect(outcomeOf(wire)).toEqual(outcomeOf(play(parcel, session, { clientPort: wire.clientPort })))
      for (const { to, told } of wire.everExpected) {
        const [syn] = helped.gateway.outside(tcpSegment('192.0.2.7:7776', told, 'S'))
        expect(toOf(syn!)).toBe(to)
      }
      helped.gateway.check()
    })
})
