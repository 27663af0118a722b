import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { portsInUse } from '../../src/host/sockets.ts'
import { CLONE_NEWNET, close, open, setns } from '../../src/io/syscalls.ts'
import type { Namespace } from '../../src/lab/world/namespace.ts'
import { testNamespace } from '../leftovers.ts'
import { addr } from './inside.ts'

const RANGE = { from: 1024, to: 65535 }
const portOf = (bound: { address(): AddressInfo | string | null }): number => (bound.address() as AddressInfo).port

describe('ports that the host itself uses', () => {
  const servers: Server[] = []
  // A port of one socket may be another one's on another address: no two of these share one by accident.
  let nextPort = 5000
  const listen = async (host: string, ipv6Only = false): Promise<number> => {
    const server = createServer()
    servers.push(server)
    server.listen({ port: nextPort++, host, ipv6Only })
    await once(server, 'listening')
    return portOf(server)
  }
  let everywhere: number
  let here: number
  let elsewhere: number
  let host: Namespace

  beforeAll(async () => {
    // A host of this test's own, for the rest of its process: no other program's sockets are here.
    host = testNamespace('sockets')
    const there = open(host.path, 0)
    setns(there, CLONE_NEWNET)
    close(there)
    everywhere = await listen('0.0.0.0')
    here = await listen('127.0.0.1')
    elsewhere = await listen('127.0.0.2')
  })
  afterAll(() => {
    for (const server of servers) server.close()
    host.delete()
  })

  const inUse = (range = RANGE) => portsInUse([addr('127.0.0.1')], range)

  it('are those bound to a shared address or to every address, and no other', () => {
    expect(inUse()).toContain(everywhere)
    expect(inUse()).toContain(here)
    expect(inUse()).not.toContain(elsewhere)
  })

  it('are asked for within a range, its ends included', () => {
    expect(inUse({ from: here, to: here })).toEqual(new Set([here]))
    expect(inUse({ from: here + 1, to: here + 1 })).not.toContain(here)
    expect(inUse({ from: here - 1, to: here - 1 })).not.toContain(here)
  })

  it('count for IPv4 if bound by an IPv6 wildcard or a mapped address', async () => {
    const dual = await listen('::')
    const mapped = await listen('::ffff:127.0.0.1')
    const mappedElsewhere = await listen('::ffff:127.0.0.2')
    const only6 = await listen('::', true)
    expect(inUse()).toContain(dual)
    expect(inUse()).toContain(mapped)
    expect(inUse()).not.toContain(mappedElsewhere)
    expect(inUse()).not.toContain(only6)
  })

  it('count for UDP, and until the socket is closed', async () => {
    const socket = createSocket('udp4')
    socket.bind(0, '127.0.0.1')
    await once(socket, 'listening')
    const port = portOf(socket)
    expect(inUse()).toContain(port)
    socket.close()
    await once(socket, 'close')
    expect(inUse()).not.toContain(port)
  })
})
