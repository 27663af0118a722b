// The tutorial, docs/helper-tutorial.md: its code, as it stands there, is a helper that works and keeps the contract,
// and its test tests it. That all of it works from the package as well: test/package/installed.host.test.ts.

import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { Helper } from '../../src/helpers/helper.ts'
import { describeHelper } from '../contract/helper.ts'
import { tcpSegment, toOf } from '../datapath/packets.ts'
import { testFolder } from '../leftovers.ts'
import { tutorialOf } from '../package/tutorial.ts'
import { client, type Dialogue, everyCut, outcomeOf, play, server } from './dialogues.ts'
import { helpedGateway } from './helped-gateway.ts'

const { modules } = tutorialOf(readFileSync(new URL('../../docs/helper-tutorial.md', import.meta.url), 'utf8'))
const TESTING = new URL('../../dist/src/testing/helper-script.js', import.meta.url).href

const folder = testFolder('tutorial')
afterAll(() => rmSync(folder, { recursive: true }))
const written = (name: string, code: string): string => {
  writeFileSync(join(folder, name), code)
  return join(folder, name)
}
written('package.json', '{ "type": "module" }')
const file = written('parcel.js', modules['parcel.js']!)
const { default: parcel } = (await import(/* @vite-ignore */ file)) as { default: Helper }

/** Runs the tutorial's test on a helper. */
function tested(helper: string): { readonly status: number | null; readonly output: string } {
  written('tried.js', helper)
  const test = modules['parcel.test.js']!.replace("'natloom/testing'", `'${TESTING}'`).replace(
    './parcel.js',
    './tried.js',
  )
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--test', written('parcel.test.js', test)], {
    encoding: 'utf8',
  })
  return { status, output: stdout + stderr }
}

const greeting = server('PARCEL 1')
const deliver = client('DELIVER book TO 10.0.0.5:40000')

describe('the tutorial', () => {
  it('is a helper of about sixty lines', () => {
    expect(modules['parcel.js']!.split('\n').length).toBeLessThan(70)
  })

  it('has a test that the helper passes', () => {
    expect(tested(modules['parcel.js']!)).toMatchObject({ status: 0, output: expect.stringMatching(/^. pass 4$/m) })
  })

  const broken = [
    ['rewrites nothing', 'ctx.mangle(', 'ctx.lines('],
    ['takes what is not greeted', 'if (!ctx.state.greeted || address', 'if (address'],
    ['takes the address of somebody else', ' || address !== ctx.tuple.src.address', ''],
    ['holds nothing', '=> beginning(ctx, partial)', '=> false'],
  ] as const
  for (const [what, from, to] of broken)
    it(`has a test that a helper fails which ${what}`, () => {
      const helper = modules['parcel.js']!.replace(from, to)
      expect(helper).not.toBe(modules['parcel.js'])
      expect(tested(helper).status).toBe(1)
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
