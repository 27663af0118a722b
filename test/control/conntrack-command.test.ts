// `natloom conntrack -L`: its text, and its error if no gateway answers.

import { once } from 'node:events'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { describe, expect, it, onTestFinished } from 'vitest'
import { apiSocket, type Connection } from '../../src/control/api-client.ts'
import { listConnections, textOf } from '../../src/control/conntrack-command.ts'
import { natloom, temporaryFile } from './command.ts'

const TCP: Connection = {
  shard: 1,
  row: 7,
  protocol: 6,
  origin: 'inside',
  state: 'ESTABLISHED',
  timeout: 7439,
  seenReply: true,
  assured: true,
  mapping: 3,
  original: {
    source: '10.0.0.2',
    destination: '203.0.113.2',
    sourcePort: 5000,
    destinationPort: 80,
    packets: 3,
    bytes: 160,
    owner: 1,
  },
  reply: {
    source: '203.0.113.2',
    destination: '203.0.113.1',
    sourcePort: 80,
    destinationPort: 20000,
    packets: 2,
    bytes: 120,
    owner: 1,
  },
}
const PORTLESS = { source: '10.0.0.2', destination: '192.0.2.1', packets: 1, bytes: 84, owner: 0 }
const ANSWER = { source: '192.0.2.1', destination: '203.0.113.1', packets: 0, bytes: 0, owner: 0 }
const { state: _, ...stateless } = TCP

describe('a connection as /proc/net/nf_conntrack writes it', () => {
  const written: readonly (readonly [Connection, string])[] = [
    [
      TCP,
      'ipv4     2 tcp      6 7439 ESTABLISHED src=10.0.0.2 dst=203.0.113.2 sport=5000 dport=80 packets=3 bytes=160 ' +
        'src=203.0.113.2 dst=203.0.113.1 sport=80 dport=20000 packets=2 bytes=120 [ASSURED] ' +
        'mark=0 zone=0 use=2 shard=1',
    ],
    [
      { ...stateless, protocol: 17, timeout: 29, seenReply: false, assured: false },
      'ipv4     2 udp      17 29 src=10.0.0.2 dst=203.0.113.2 sport=5000 dport=80 packets=3 bytes=160 [UNREPLIED] ' +
        'src=203.0.113.2 dst=203.0.113.1 sport=80 dport=20000 packets=2 bytes=120 mark=0 zone=0 use=2 shard=1',
    ],
    [
      { ...stateless, protocol: 1, icmp: { type: 8, id: 77, replyId: 20000 }, original: PORTLESS, reply: ANSWER },
      'ipv4     2 icmp     1 7439 src=10.0.0.2 dst=192.0.2.1 type=8 code=0 id=77 packets=1 bytes=84 ' +
        'src=192.0.2.1 dst=203.0.113.1 type=0 code=0 id=20000 packets=0 bytes=0 [ASSURED] mark=0 zone=0 use=2 shard=1',
    ],
    [
      { ...stateless, protocol: 50, original: PORTLESS, reply: ANSWER },
      'ipv4     2 unknown  50 7439 src=10.0.0.2 dst=192.0.2.1 packets=1 bytes=84 ' +
        'src=192.0.2.1 dst=203.0.113.1 packets=0 bytes=0 [ASSURED] mark=0 zone=0 use=2 shard=1',
    ],
  ]
  for (const [what, master, text] of [
    [
      'its helper and',
      { source: '10.0.0.2', destination: '192.0.2.7', sourcePort: 5000, destinationPort: 21 },
      'shard=1 helper=ftp master=10.0.0.2:5000>192.0.2.7:21',
    ],
    ['that it has outlived', null, 'shard=1 helper=ftp master=ended'],
  ] as const)
    it(`with ${what} its master`, () =>
      expect(textOf({ ...TCP, helper: 'ftp', master: { shard: 0, row: 3, original: master } })).toMatch(
        new RegExp(` mark=0 zone=0 use=2 ${text}$`),
      ))

  for (const [connection, text] of written)
    it(`of protocol ${connection.protocol}`, () => expect(textOf(connection)).toBe(text))
})

/** A gateway that answers with these pieces, and breaks off after them if it is told so. */
async function gateway(pieces: readonly string[], breaksOff = false): Promise<string> {
  const socket = join(temporaryFile('x', ''), '..', 'api.sock')
  const server = createServer((_, response) => {
    for (const piece of pieces) response.write(piece)
    if (breaksOff) setImmediate(() => response.destroy())
    else response.end()
  }).listen(socket)
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  return socket
}

async function output(socket: string, format: 'text' | 'json'): Promise<string> {
  let written = ''
  const to = new Writable({
    write(chunk, _, done) {
      written += chunk
      done()
    },
  })
  await listConnections(socket, format, to)
  return written
}

describe('the list', () => {
  const line = JSON.stringify(TCP)
  const answer = [`[\n${line.slice(0, 20)}`, `${line.slice(20)},\n${line}`, '\n]\n']

  it('is text, a line each', async () => {
    expect(await output(await gateway(answer), 'text')).toBe(`${textOf(TCP)}\n${textOf(TCP)}\n`)
  })

  it('is the gateway’s own JSON', async () => {
    expect(await output(await gateway(answer), 'json')).toBe(answer.join(''))
  })

  it('may be empty', async () => {
    expect(await output(await gateway(['[]\n']), 'text')).toBe('')
  })

  it('that breaks off is an error', async () => {
    await expect(output(await gateway(answer.slice(0, 1), true), 'text')).rejects.toMatchObject({
      code: 'API_ANSWER',
      message: expect.stringContaining('ended before its answer did'),
      exitCode: 3,
    })
  })
})

describe('where no gateway runs, the command ends with exit code 3 and says what to do', () => {
  it('the socket is not there', () => {
    const { status, stdout, stderr } = natloom(['conntrack', '-L', '--socket', '/nowhere/api.sock'])
    expect({ status, stdout }).toEqual({ status: 3, stdout: '' })
    expect(stderr).toMatch(/no gateway runs here: nobody listens at \/nowhere\/api\.sock .*start one by `natloom run`/)
  })

  it('the socket is a file', () => {
    const file = temporaryFile('api.sock', '')
    expect(natloom(['conntrack', '-L', '--socket', file])).toMatchObject({ status: 3 })
    // Listing is what it does anyway.
    expect(natloom(['conntrack', '--socket', file])).toMatchObject({ status: 3 })
  })
})

describe('the command line', () => {
  const wrong = [
    [['conntrack', '-D'], 'conntrack -D is not there yet; instead: they end by their timeouts'],
    [['conntrack', '-L', '-o', 'xml'], "argument 'xml' is invalid. Allowed choices are text, json"],
  ] as const
  for (const [args, says] of wrong)
    it(`${args.join(' ')} is refused`, () => {
      const { status, stderr } = natloom(args)
      expect(status).toBe(2)
      expect(stderr).toContain(says)
    })
})

describe('the socket is', () => {
  it('the variable’s, else the file’s, else the default', () => {
    const file = temporaryFile('natloom.yaml', 'api: { socket: /run/other.sock }\n')
    expect(apiSocket({ file, env: { NATLOOM_API_SOCKET: '/run/mine.sock' } })).toBe('/run/mine.sock')
    expect(apiSocket({ file, env: {} })).toBe('/run/other.sock')
    expect(apiSocket({ env: { NATLOOM_CONFIG: '/dev/null' } })).toBe('/run/natloom/api.sock')
  })
})
