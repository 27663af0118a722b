// NAT slipstreaming (2020): a page that somebody inside opens makes the browser send a request to a port that a helper
// reads, shaped so that a segment begins with a command. The server is the attacker's: it says whatever helps. What it
// can't choose is how a request begins: with a request line, and a Host header on a line of its own before any body.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BUILTIN } from '../../src/helpers/builtin.ts'
import { client, type Dialogue, inPieces, play, type Said, server } from './dialogues.ts'
import { faultsOf } from './mutations.ts'

interface Target {
  readonly helper: string
  /** What the attacker's server says, before and between. */
  readonly lures: readonly Said[]
  /** Lines of the body. */
  readonly commands: readonly string[]
  /** Methods that are commands as well: a page may choose one by fetch(). */
  readonly methods: readonly string[]
}

const TARGETS: readonly Target[] = [
  {
    helper: 'ftp',
    lures: [server('220 ready'), server('230 in'), server('200 ok'), server('227 (192,0,2,7,195,80)')],
    commands: ['USER a', 'PASS b', 'PASV', 'PORT 10,0,0,5,156,64', 'EPRT |1|10.0.0.5|40000|', 'PORT 10,0,0,9,0,22'],
    methods: ['USER', 'PORT', 'NOOP', 'PASV', 'SITE'],
  },
  {
    helper: 'irc',
    lures: [server(':irc 001 a :hi'), server('PING :x'), server(':b!b@b PRIVMSG a :\x01DCC RESUME a 40000 1\x01')],
    commands: ['NICK a', 'USER a 0 * :a', 'PRIVMSG b :\x01DCC SEND a 167772165 40000 1\x01', 'CAP END'],
    methods: ['NICK', 'USER', 'CAP', 'PRIVMSG'],
  },
]

const METHODS = ['POST', 'GET', 'PUT', 'OPTIONS', 'HEAD', 'DELETE', 'M-SEARCH']
const HEADERS = [
  'Connection: keep-alive',
  'Content-Type: text/plain',
  'Content-Length: 9999',
  'Origin: null',
  'Accept: */*',
]

describe.each(TARGETS)('slipstreaming by $helper', ({ helper, lures, commands, methods }) => {
  const page = fc.record({
    method: fc.constantFrom(...METHODS, ...methods),
    path: fc.constantFrom('/', `/${'x'.repeat(1400)}`, '/a%0d%0aPORT', '/PORT'),
    headers: fc.subarray(HEADERS),
    padding: fc.nat(3000),
    body: fc.array(fc.constantFrom(...commands), { minLength: 1, maxLength: 12 }),
    lures: fc.array(fc.constantFrom(...lures), { maxLength: 4 }),
    between: fc.array(fc.constantFrom(...lures), { maxLength: 4 }),
    pieces: fc.array(fc.integer({ min: 1, max: 1460 }), { maxLength: 30 }),
  })

  it('opens nothing, however a request of HTTP is cut and whatever it says', () => {
    fc.assert(
      fc.property(page, ({ method, path, headers, padding, body, lures: before, between, pieces }) => {
        const head = [`${method} ${path} HTTP/1.1`, 'Host: evil.example:21', ...headers, '', 'x'.repeat(padding)]
        const request = inPieces(client(...head, ...body), pieces)
        const dialogue: Dialogue = [...before, ...request.flatMap((said, i) => [said, ...between.slice(i, i + 1)])]
        const script = play(BUILTIN[helper]!(), dialogue)
        expect(script.everExpected).toEqual([])
        expect(script.edits).toEqual([])
        expect(script.received('original')).toBe(script.sent('original'))
      }),
      { numRuns: 3000 },
    )
  })

  it('opens nothing when every line of the body begins a segment', () => {
    for (const method of [...METHODS, ...methods]) {
      const head = client(`${method} / HTTP/1.1`, 'Host: evil.example', 'Content-Length: 9999', '')
      const dialogue = [...lures, head, ...commands.flatMap((line) => [client(line), ...lures])]
      expect(play(BUILTIN[helper]!(), dialogue).everExpected).toEqual([])
    }
  })

  it('opens nothing when the body comes as a connection of its own would, after TLS has begun', () => {
    const hello: Said = ['original', `\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03${'\r\n'.repeat(16)}`]
    expect(play(BUILTIN[helper]!(), [...lures, hello, client(...commands)]).everExpected).toEqual([])
  })

  it('would open the same commands by themselves, at their own address only', () => {
    const script = play(BUILTIN[helper]!(), [lures[0]!, client(...commands)])
    expect(script.everExpected.length).toBeGreaterThan(0)
    expect(faultsOf(script)).toEqual([])
  })
})
