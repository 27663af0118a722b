import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { howEnded } from '../../../src/lab/traffic/how-ended.ts'

let server: Server
let client: Socket
let accepted: Socket

beforeEach(async () => {
  server = createServer({ allowHalfOpen: true })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  client = connect({ host: '127.0.0.1', port: (server.address() as AddressInfo).port })
  const [[socket]] = await Promise.all([once(server, 'connection'), once(client, 'connect')])
  accepted = socket as Socket
  accepted.on('error', () => accepted.destroy())
  accepted.resume()
})
afterEach(() => {
  client.destroy()
  accepted.destroy()
  server.close()
})

const CASES: readonly [how: string, end: () => void, expected: string][] = [
  ['a FIN', () => client.end(), 'closed'],
  ['data and a FIN', () => client.end('data'), 'closed'],
  ['a reset', () => client.resetAndDestroy(), 'reset'],
  [
    'data and a reset that are read at once',
    () => {
      client.write('data')
      client.resetAndDestroy()
    },
    'reset',
  ],
]

for (const [how, end, expected] of CASES)
  it(`${how}: ${expected}`, async () => {
    const ended = howEnded(accepted)
    end()
    expect(await ended).toBe(expected)
  })

it('what was ended at this side first is still told apart from a reset alone', async () => {
  const ended = howEnded(accepted)
  accepted.end()
  await once(accepted, 'finish')
  client.resetAndDestroy()
  expect(await ended).toBe('reset')
})
