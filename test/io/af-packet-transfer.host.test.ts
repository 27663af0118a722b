// Real TCP through the af-packet driver: a client and a server, each in a namespace of its own, and between them a
// relay that only carries frames. The driver contract checks single frames; here two TCP stacks with all their offloads
// check.

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AfPacketDriver } from '../../src/io/af-packet.ts'
import { openAfPacket } from '../../src/io/af-packet-open.ts'
import { BURST, VIRTIO_NET_HEADER } from '../../src/io/driver.ts'
import { close, eventfd, interfaceIndex } from '../../src/io/syscalls.ts'
import { type Namespace, veth } from '../../src/lab/world/namespace.ts'
import { offload } from '../contract/frames.ts'
import { inside, quietNamespace } from './far-end.ts'

const BYTES = 20 << 20
const ETHERNET_MTU_FRAME = 1514

const CONTENT = `
  const { createHash } = require('node:crypto')
  const http = require('node:http')
  const content = Buffer.alloc(${BYTES}, createHash('sha512').update('natloom').digest())
  for (let i = 0; i < content.length; i += 64) content.writeUInt32BE(i, i)
  const digest = (bytes) => createHash('sha256').update(bytes).digest('hex')
`
/** A server that answers a GET with the content, and a POST with the digest of what came. */
const SERVER = `${CONTENT}
  http.createServer(async (request, response) => {
    if (request.method === 'GET') return response.end(content)
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    response.end(digest(Buffer.concat(chunks)))
  }).listen(80, '10.9.0.2', () => console.log('listening'))
`
/** A client that prints how many bytes it got and sent, and whether both were the content. */
const CLIENT = `${CONTENT}
  async function main() {
    const down = Buffer.from(await (await fetch('http://10.9.0.2/')).arrayBuffer())
    const up = await (await fetch('http://10.9.0.2/', { method: 'POST', body: content })).text()
    console.log(JSON.stringify({ down: down.length, same: digest(down) === digest(content) && up === digest(content) }))
  }
  main()
`

describe('a TCP connection through af-packet', () => {
  const hosts: Namespace[] = []
  const children: ChildProcess[] = []
  const wakeFd = eventfd()
  let client: Namespace
  let relay: Namespace
  let server: Namespace

  beforeAll(() => {
    for (const name of ['client', 'relay', 'server']) hosts.push(quietNamespace(name))
    ;[client, relay, server] = hosts
    veth(relay, 'left', client, 'eth0')
    veth(relay, 'right', server, 'eth0')
    client.ip('addr add 10.9.0.1/24 dev eth0')
    server.ip('addr add 10.9.0.2/24 dev eth0')
    // The relay takes IPv4 that is sent to it: towards either side it has the address of the other side's host.
    const CLIENT_MAC = '02:00:00:00:00:01'
    const SERVER_MAC = '02:00:00:00:00:02'
    client.ip(`link set eth0 address ${CLIENT_MAC}`)
    server.ip(`link set eth0 address ${SERVER_MAC}`)
    relay.ip(`link set left address ${SERVER_MAC}`)
    relay.ip(`link set right address ${CLIENT_MAC}`)
    client.ip(`neigh add 10.9.0.2 lladdr ${SERVER_MAC} dev eth0`)
    server.ip(`neigh add 10.9.0.1 lladdr ${CLIENT_MAC} dev eth0`)
  })
  afterAll(async () => {
    for (const child of children) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill()
      await once(child, 'exit')
    }
    for (const host of hosts) host.delete()
    close(wakeFd)
  })

  function start(host: Namespace, program: string): ChildProcess {
    const child = host.spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
    children.push(child)
    return child
  }

  it('arrives complete both ways, in super-packets and with partial checksums carried whole', async () => {
    const opened = inside(relay, () => {
      const interfaces = ['left', 'right'].map((name) => ({ name, index: interfaceIndex(name) }))
      const options = { shards: 1, ringBytes: 64 << 20, qdiscBypass: [true, true], wakeFds: [wakeFd] }
      return openAfPacket({ interfaces, ...options, dispatch: 'kernel' })
    })
    const driver = new AfPacketDriver(opened.rings[0])
    const at = new Int32Array(BURST)
    const length = new Int32Array(BURST)
    const seen = [
      { superPackets: 0, partialChecksums: 0 },
      { superPackets: 0, partialChecksums: 0 },
    ]

    function carry(from: number, to: number): number {
      const count = driver.receive(from, at, length)
      for (let i = 0; i < count; i++) {
        const { needsChecksum, gsoSize } = offload(
          new Uint8Array(driver.packetMemory, at[i] - VIRTIO_NET_HEADER, VIRTIO_NET_HEADER),
        )
        if (needsChecksum) seen[from].partialChecksums++
        if (gsoSize > 0 && length[i] > ETHERNET_MTU_FRAME) seen[from].superPackets++
        driver.send(to, at[i], length[i])
      }
      driver.flush()
      driver.release(from)
      return count
    }

    await once(start(server, SERVER).stdout!, 'data')
    const fetching = start(client, CLIENT)
    let said = ''
    let ended = false
    fetching.stdout!.on('data', (text) => {
      said += text
    })
    fetching.once('close', () => {
      ended = true
    })
    while (!ended) {
      if (carry(0, 1) + carry(1, 0) === 0) driver.wait(5)
      await setImmediate()
    }

    expect(JSON.parse(said)).toEqual({ down: BYTES, same: true })
    for (const direction of seen) {
      expect(direction.superPackets).toBeGreaterThan(100)
      expect(direction.partialChecksums).toBeGreaterThan(direction.superPackets)
    }
    for (const port of [0, 1]) {
      expect(driver.receiveLosses(port)).toBe(0)
      expect(driver.sendFailures(port)).toBe(0)
    }
    driver.close()
    opened.close()
  })
})
