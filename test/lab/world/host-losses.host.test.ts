import { once } from 'node:events'
import { afterAll, expect, it } from 'vitest'
import { hostLosses } from '../../../src/lab/world/host-losses.ts'
import { testNamespace } from '../../leftovers.ts'

/** Sends to itself at once more than a socket's buffer holds, and ends before it has read anything. */
const FULL = `
  import { createSocket } from 'node:dgram'
  import { once } from 'node:events'
  const [to, from] = [createSocket('udp4'), createSocket('udp4')]
  to.bind(9, '127.0.0.1')
  await once(to, 'listening')
  from.connect(9, '127.0.0.1')
  await once(from, 'connect')
  to.setRecvBufferSize(4096)
  for (let i = 0; i < 200; i++) from.send(Buffer.alloc(1000))
  process.exit()
`

const host = testNamespace('losses')
afterAll(() => host.delete())

it('a host counts what came to a socket whose program does not read', async () => {
  expect(hostLosses([host])).toEqual({ sockets: 0, links: 0 })
  const program = host.spawn(process.execPath, ['--input-type=module', '--eval', FULL], { stdio: 'inherit' })
  expect(await once(program, 'exit')).toEqual([0, null])
  expect(hostLosses([host, host]).sockets).toBeGreaterThanOrEqual(2)
})
