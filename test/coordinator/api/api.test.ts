// The API's unix socket: who may use it, which socket is replaced, and what is left of it.

import { once } from 'node:events'
import { existsSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { get, type IncomingMessage, request } from 'node:http'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ApiServer, MOST_CONNECTIONS } from '../../../src/coordinator/api/api.ts'
import { HelperError } from '../../../src/coordinator/helpers/errors.ts'
import type { LoadedHelper } from '../../../src/coordinator/helpers/helper-manager.ts'
import { testFolder } from '../../leftovers.ts'

let folder: string
let socket: string
const servers: ApiServer[] = []
beforeEach(() => {
  folder = testFolder('api')
  socket = join(folder, 'run', 'api.sock')
})
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close()
  rmSync(folder, { recursive: true })
})

async function* nothing(): AsyncGenerator<string> {
  yield '[]\n'
}

const FTP: LoadedHelper = {
  name: 'ftp',
  id: 1,
  module: 'ftp',
  protocol: 'tcp',
  ports: [21],
  servers: [],
  options: {},
  onFailure: 'reset',
  classes: [{ name: 'default', maxExpected: 1, timeoutSeconds: 300 }],
  state: 'in force',
}
/** Requests that reached the helper manager, and its answers. */
let asked: unknown[]
let answer: () => Promise<LoadedHelper>
beforeEach(() => {
  asked = []
  answer = async () => FTP
})

async function start(connections: () => AsyncIterable<string> = nothing): Promise<ApiServer> {
  const server = await ApiServer.start({
    socket,
    connections,
    async *expectations() {
      yield '[]\n'
    },
    async *hosts() {
      yield '[]\n'
    },
    drops: () => '[]\n',
    helpers: {
      list: () => [FTP],
      load: (request) => {
        asked.push(request)
        return answer()
      },
      unload: (name) => {
        asked.push(name)
        return answer()
      },
    },
  })
  servers.push(server)
  return server
}

async function ask(path: string, method = 'GET', body = '') {
  const sent = request({ socketPath: socket, path, method, agent: false }).end(body)
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  // The socket may close before this side has noticed that all of a long body was taken.
  sent.on('error', () => {})
  return { status: response.statusCode, headers: response.headers, text: await text(response) }
}

/** A socket at which no process listens, as a killed gateway leaves it. */
async function stale(): Promise<void> {
  const server = createServer().listen(join(folder, 'first'))
  await once(server, 'listening')
  renameSync(join(folder, 'first'), socket)
  server.close()
  await once(server, 'close')
}

describe('the socket', () => {
  it('is made, with the directory around it, for its owner alone', async () => {
    await start()
    expect(statSync(socket).mode & 0o777).toBe(0o600)
    expect(statSync(join(folder, 'run')).mode & 0o777).toBe(0o700)
  })

  it('is gone when the server is closed', async () => {
    const server = await start()
    await server.close()
    servers.pop()
    expect(existsSync(socket)).toBe(false)
  })

  it('serves so many connections at a time, and closes one more', async () => {
    await start()
    const idle = Array.from({ length: MOST_CONNECTIONS }, () => connect(socket))
    await Promise.all(idle.map((each) => once(each, 'connect')))
    await once(connect(socket).resume(), 'close')
    expect(idle.filter((each) => each.readyState === 'open')).toHaveLength(MOST_CONNECTIONS)
  })

  it('replaces one that nobody listens at', async () => {
    await (await start()).close()
    servers.pop()
    await stale()
    await start()
    expect(await ask('/connections')).toMatchObject({ status: 200 })
    expect(readdirSync(join(folder, 'run'))).toEqual(['api.sock'])
  })

  it('that another gateway serves at stays its own', async () => {
    await start()
    await expect(start()).rejects.toMatchObject({
      code: 'API_SOCKET_IN_USE',
      message: expect.stringContaining('another natloom serves its API'),
    })
    expect(await ask('/connections')).toMatchObject({ status: 200, text: '[]\n' })
    expect(readdirSync(join(folder, 'run'))).toEqual(['api.sock'])
  })

  it('does not replace a file', async () => {
    await (await start()).close()
    servers.pop()
    writeFileSync(socket, 'precious')
    await expect(start()).rejects.toMatchObject({
      code: 'API_SOCKET',
      message: expect.stringMatching(/is no socket: remove it, or set api\.socket/),
    })
  })

  it('says which path it can’t be made at', async () => {
    writeFileSync(join(folder, 'run'), '')
    await expect(start()).rejects.toMatchObject({
      code: 'API_SOCKET',
      message: expect.stringMatching(/api\.sock \((EEXIST|ENOTDIR)\)/),
    })
  })
})

describe('the API', () => {
  it('streams what it is given, as JSON', async () => {
    await start(async function* () {
      yield '[\n{"shard":0}'
      yield ',\n{"shard":1}'
      yield '\n]\n'
    })
    const { headers, text } = await ask('/connections?x=1')
    expect(headers).toMatchObject({ 'content-type': 'application/json', 'transfer-encoding': 'chunked' })
    expect(JSON.parse(text)).toEqual([{ shard: 0 }, { shard: 1 }])
  })

  it('asks for no more than its reader takes, and stops when the reader goes away', async () => {
    let made = 0
    let stopped: () => void = () => {}
    const ended = new Promise<void>((resolve) => {
      stopped = resolve
    })
    await start(async function* () {
      try {
        for (;;) {
          made++
          yield 'x'.repeat(100_000)
        }
      } finally {
        stopped()
      }
    })
    const reader = connect(socket)
    reader.pause()
    reader.write('GET /connections HTTP/1.1\r\nhost: x\r\n\r\n')
    await once(reader, 'connect')
    // A reader of another answer sees that the first one is held up.
    expect(await ask('/nothing')).toMatchObject({ status: 404 })
    reader.destroy()
    await ended
    expect(made).toBeLessThan(100)
  })

  it('only reads', async () => {
    await start()
    expect(await ask('/connections', 'POST')).toMatchObject({ status: 405, headers: { allow: 'GET' } })
  })

  it('ends answers that are under way when it is closed', async () => {
    const server = await start(async function* () {
      yield '['
      await new Promise(() => {})
    })
    servers.pop()
    const [response] = (await once(get({ socketPath: socket, path: '/connections', agent: false }), 'response')) as [
      IncomingMessage,
    ]
    const broken = text(response).catch((error) => error.code)
    await server.close()
    expect(await broken).toBe('ECONNRESET')
  })
})

describe('what is asked of it', () => {
  beforeEach(() => start())

  it('lists expectations and helpers', async () => {
    expect(await ask('/expectations')).toMatchObject({ status: 200, text: '[]\n' })
    const { status, text } = await ask('/helpers')
    expect([status, JSON.parse(text)]).toEqual([200, [FTP]])
  })

  it('loads a helper', async () => {
    const wanted = { module: '/opt/beacon.js', ports: [9000], servers: ['192.0.2.0/24'], options: { depth: 3 } }
    const { status, text } = await ask('/helpers', 'POST', JSON.stringify(wanted))
    expect([status, JSON.parse(text)]).toEqual([201, FTP])
    expect(asked).toEqual([wanted])
  })

  it('unloads one', async () => {
    expect(await ask('/helpers/ftp', 'DELETE')).toMatchObject({ status: 200 })
    expect(asked).toEqual(['ftp'])
  })

  const refusals = [
    ['GET', '/nothing', '', 404, 'API_PATH', /here is \/connections, \/expectations, \/hosts, \/drops, \/helpers/],
    ['POST', '/connections', '', 405, 'API_METHOD', /allowed: GET/],
    ['POST', '/hosts', '', 405, 'API_METHOD', /allowed: GET/],
    ['DELETE', '/helpers', '', 405, 'API_METHOD', /allowed: GET, POST/],
    ['GET', '/helpers/ftp', '', 405, 'API_METHOD', /allowed: DELETE/],
    ['POST', '/helpers', 'ftp', 400, 'API_REQUEST', /the body must be a JSON object/],
    ['POST', '/helpers', '["ftp"]', 400, 'API_REQUEST', /the body must be a JSON object/],
    ['POST', '/helpers', '{"module":"sip"}', 400, 'API_REQUEST', /module: one of ftp, irc, tftp, or the absolute path/],
    ['POST', '/helpers', '{"module":"./x.js"}', 400, 'API_REQUEST', /module: one of/],
    ['POST', '/helpers', '{"module":"ftp","ports":[0]}', 400, 'API_REQUEST', /ports: a list of numbers/],
    ['POST', '/helpers', '{"module":"ftp","servers":["x"]}', 400, 'API_REQUEST', /servers: a list of addresses/],
    ['POST', '/helpers', '{"module":"ftp","options":[]}', 400, 'API_REQUEST', /options: an object/],
    ['POST', '/helpers', '{"module":"ftp","port":21}', 400, 'API_REQUEST', /port: no such field/],
    ['POST', '/helpers', 'x'.repeat(300_000), 413, 'API_REQUEST', /at most/],
  ] as const
  for (const [method, path, body, status, code, message] of refusals)
    it(`refuses ${method} ${path} ${body.slice(0, 40)}`, async () => {
      const answer = await ask(path, method, body)
      expect(answer.status).toBe(status)
      expect(JSON.parse(answer.text)).toEqual({ error: { code, message: expect.stringMatching(message) } })
      expect(asked).toEqual([])
    })

  for (const [code, status] of [
    ['HELPER_MODULE', 422],
    ['HELPER_SHARD', 422],
    ['HELPER_EXISTS', 409],
    ['HELPER_LIMIT', 409],
    ['HELPER_UNKNOWN', 404],
  ] as const)
    it(`answers ${status} to ${code}`, async () => {
      answer = () => Promise.reject(new HelperError(code, 'why not'))
      const { status: answered, text } = await ask('/helpers', 'POST', '{"module":"ftp"}')
      expect([answered, JSON.parse(text)]).toEqual([status, { error: { code, message: 'why not' } }])
    })
})
