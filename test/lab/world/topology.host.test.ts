import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { afterEach, describe, expect, it } from 'vitest'
import { Namespace } from '../../../src/lab/world/namespace.ts'
import { Processes } from '../../../src/lab/world/processes.ts'
import {
  GATEWAY_INSIDE,
  INSIDE_HOSTS,
  REMOTE,
  removeLeftovers,
  SERVER,
  Topology,
} from '../../../src/lab/world/topology.ts'
import { testFamily } from '../../leftovers.ts'

const FAMILY = `${testFamily()}-topology`
/** Says when it is inside: a process that is still on its way there is not found. */
const SLEEPS = ['-c', 'echo here; exec sleep 600']

const namespaces = () => readdirSync('/run/netns').filter((name) => name.startsWith(FAMILY))

/** The number of a process that has just ended: nobody's. */
async function endedProcess(): Promise<number> {
  const child = spawn('true')
  await once(child, 'exit')
  return child.pid as number
}

describe('topology', () => {
  let topology: Topology | undefined
  afterEach(() => topology?.remove())

  it('gives the LAN host a neighbour, the gateway, and no way beyond it before anything forwards', () => {
    topology = Topology.create(FAMILY)
    const { lan, gateway, outside } = topology
    expect(lan.exec('ping', '-c', '1', '-W', '60', GATEWAY_INSIDE)).toContain('1 received')
    expect(gateway.exec('ping', '-c', '1', '-W', '60', SERVER)).toContain('1 received')
    expect(gateway.exec('ping', '-c', '1', '-W', '60', REMOTE)).toContain('1 received')
    expect(() => lan.exec('ping', '-c', '1', '-W', '1', SERVER)).toThrow()
    expect(outside.ip('route show')).not.toMatch(/10\.0\.0\.|default/)
  })

  it('gives the LAN host eight addresses, of which it sends from the first', () => {
    topology = Topology.create(FAMILY)
    expect(topology.lan.ip(`route get ${SERVER}`)).toContain(`src ${INSIDE_HOSTS[0]}`)
    for (const address of INSIDE_HOSTS)
      expect(topology.gateway.exec('ping', '-c', '1', '-W', '60', address)).toContain('1 received')
  })

  it('has links of 1500 bytes, no IPv6, and no neighbour that ARP has not found', () => {
    topology = Topology.create(FAMILY)
    for (const host of topology.hosts) {
      const links = host.ip('-o link show type veth').trim().split('\n')
      for (const link of links) expect(link).toContain('mtu 1500')
      expect(host.ip('-6 addr show').trim()).toBe('')
      expect(host.ip('neigh show nud permanent').trim()).toBe('')
    }
  })

  it('is gone when removed, with the processes in it, and may be removed twice', async () => {
    topology = Topology.create(FAMILY)
    const processes = new Processes()
    const sleeper = processes.start(topology.lan, 'sh', SLEEPS)
    await once(sleeper.child.stdout!, 'data')
    topology.remove()
    topology.remove()
    expect((await sleeper.ended).signal).toBe('SIGKILL')
    expect(namespaces()).toEqual([])
    expect(existsSync(topology.directory)).toBe(false)
  })
})

describe('leftovers', () => {
  it('of a process that is no more are removed, and what runs in them is ended', async () => {
    const orphan = Namespace.create(`${FAMILY}-${await endedProcess()}-1-lan`)
    const sleeper = orphan.spawn('sh', SLEEPS, { stdio: ['ignore', 'pipe', 'ignore'] })
    await once(sleeper.stdout!, 'data')
    const ended = once(sleeper, 'exit')
    expect(removeLeftovers(FAMILY)).toEqual([orphan.name])
    await ended
    expect(namespaces()).toEqual([])
  })

  it('may be removed by several at the same time', async () => {
    const dead = await endedProcess()
    for (let i = 0; i < 12; i++) Namespace.create(`${FAMILY}-${dead}-1-${i}`)
    const topology = new URL('../../../dist/src/lab/world/topology.js', import.meta.url)
    const code = `(await import('${topology}')).removeLeftovers('${FAMILY}')`
    const removers = [1, 2, 3].map(() =>
      spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['ignore', 'ignore', 'pipe'] }),
    )
    const errors = await Promise.all(removers.map(({ stderr }) => text(stderr)))
    expect(errors).toEqual(['', '', ''])
    expect(namespaces()).toEqual([])
  })

  it('are known from what a later process with the same number made', () => {
    const orphan = Namespace.create(`${FAMILY}-${process.pid}-1-lan`)
    expect(removeLeftovers(FAMILY)).toEqual([orphan.name])
  })

  it('are not what a living process uses', () => {
    const topology = Topology.create(FAMILY)
    try {
      expect(removeLeftovers(FAMILY)).toEqual([])
      expect(namespaces()).toHaveLength(3)
    } finally {
      topology.remove()
    }
  })
})
