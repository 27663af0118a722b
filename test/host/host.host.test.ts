import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HostError, type HostErrorCode } from '../../src/host/errors.ts'
import { Host, type HostPlan } from '../../src/host/host.ts'
import { readPortRange, writePortRange } from '../../src/host/port-range.ts'
import type { Namespace } from '../../src/lab/world/namespace.ts'
import { testFolder, testNamespace } from '../leftovers.ts'
import { addr, inside } from './inside.ts'

const DEBIAN = { from: 32768, to: 60999 }
const MOVED = { from: 60992, to: 65535 }
const FOREIGN = { from: 20000, to: 30000 }

describe('what natloom changes on its host', () => {
  let gateway: Namespace
  let folder: string
  let plan: HostPlan
  const children: ChildProcess[] = []

  const connect = () => {
    gateway.ip('link add wan0 type veth peer name peer0')
    gateway.ip('link set wan0 up')
    gateway.ip('addr add 203.0.113.2/24 dev wan0')
  }

  beforeEach(() => {
    gateway = testNamespace('host')
    gateway.ip('link add lan0 type veth peer name peer1')
    connect()
    inside(gateway, () => writePortRange(DEBIAN))
    folder = testFolder('files')
    plan = {
      inside: ['lan0'],
      outside: ['wan0'],
      shared: [addr('203.0.113.2')],
      pool: [],
      natPorts: { from: 16384, to: 60991 },
      protocols: [],
      forwarded: [],
      hostPortRange: MOVED,
      statePath: join(folder, 'run', 'state.json'),
    }
  })

  afterEach(async () => {
    for (const child of children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    gateway.delete()
    rmSync(folder, { recursive: true })
  })

  const portRange = () => inside(gateway, readPortRange)
  const rules = () => gateway.exec('nft', 'list', 'ruleset')
  const poolRoutes = () => gateway.ip('route show table local proto 99').trim().split('\n').filter(Boolean)
  const stateExists = () => existsSync(plan.statePath ?? '')

  const started = (changes: Partial<HostPlan> = {}): Host => {
    const host = new Host({ ...plan, ...changes })
    inside(gateway, () => {
      host.prepare()
      host.apply()
    })
    return host
  }
  const undo = (host: Host) => inside(gateway, () => host.undo())

  /** A natloom of its own process that has applied its plan. */
  const running = async (changes: Partial<HostPlan> = {}): Promise<ChildProcess> => {
    const script = fileURLToPath(new URL('../../dist/test/host/host-process.js', import.meta.url))
    const child = gateway.spawn(process.execPath, [script, JSON.stringify({ ...plan, ...changes })])
    children.push(child)
    await once(child.stdout!, 'data')
    return child
  }
  const killed = async (changes: Partial<HostPlan> = {}): Promise<void> => {
    const child = await running(changes)
    child.kill('SIGKILL')
    await once(child, 'exit')
  }

  const codeOf = (work: () => unknown): HostErrorCode | undefined => {
    try {
      inside(gateway, work)
    } catch (error) {
      if (error instanceof HostError) return error.code
      throw error
    }
    return undefined
  }

  const expectNothingLeft = () => {
    expect(portRange()).toEqual(DEBIAN)
    expect(rules()).toBe('')
    expect(poolRoutes()).toEqual([])
    expect(readdirSync(join(folder, 'run'))).toEqual([])
  }

  it('is all taken back at stop, also if asked twice', () => {
    const host = started({ pool: [addr('203.0.113.50'), addr('203.0.113.51')] })
    expect(portRange()).toEqual(MOVED)
    expect(rules()).toContain('203.0.113.2 meta l4proto { tcp, udp } th dport 16384-60991 drop')
    expect(poolRoutes()).toHaveLength(2)
    expect(stateExists()).toBe(true)
    expect(undo(host)).toEqual([])
    expectNothingLeft()
    expect(undo(host)).toEqual([])
  })

  it('is not brought back by a late notification', () => {
    const host = started()
    undo(host)
    inside(gateway, () => host.update({ shared: [addr('203.0.113.3')] }))
    expectNothingLeft()
  })

  it('is written down before it is done: nothing changes where the state file can’t be written', () => {
    writeFileSync(join(folder, 'run'), 'a file where the folder should be')
    const host = new Host(plan)
    expect(codeOf(() => host.prepare())).toBe('HOST_STATE')
    expect(codeOf(() => host.apply())).toBe('HOST_STATE')
    expect([portRange(), rules()]).toEqual([DEBIAN, ''])
  })

  it('leaves the port range alone where it is right already, or nothing is shared', () => {
    inside(gateway, () => writePortRange(MOVED))
    undo(started())
    expect(portRange()).toEqual(MOVED)
    inside(gateway, () => writePortRange(FOREIGN))
    const host = started({ hostPortRange: null })
    expect(portRange()).toEqual(FOREIGN)
    undo(host)
    expect(portRange()).toEqual(FOREIGN)
  })

  it('does not overwrite a port range that somebody set meanwhile', () => {
    const host = started()
    inside(gateway, () => writePortRange(FOREIGN))
    expect(undo(host)).toEqual([])
    expect(portRange()).toEqual(FOREIGN)
  })

  it('stays after SIGKILL, and the next start takes it over with the original values', async () => {
    await killed({ pool: [addr('203.0.113.50'), addr('203.0.113.51')] })
    expect([portRange(), poolRoutes().length]).toEqual([MOVED, 2])
    expect(rules()).toContain('natloom')
    const host = new Host({ ...plan, pool: [addr('203.0.113.51'), addr('203.0.113.52')] })
    expect(inside(gateway, () => host.prepare())).toBe(true)
    inside(gateway, () => host.apply())
    expect(poolRoutes().map((route) => route.split(' ')[1])).toEqual(['203.0.113.51', '203.0.113.52'])
    expect(rules().match(/chain prerouting/g)).toHaveLength(1)
    expect(undo(host)).toEqual([])
    expectNothingLeft()
  })

  it('can be taken back after SIGKILL by a start that goes no further', async () => {
    await killed({ pool: [addr('203.0.113.50')] })
    const host = new Host(plan)
    inside(gateway, () => host.prepare())
    expect(undo(host)).toEqual([])
    expectNothingLeft()
  })

  it('after several kills still knows the first original, and a change between them', async () => {
    await killed()
    await killed()
    undo(started())
    expect(portRange()).toEqual(DEBIAN)
    await killed()
    inside(gateway, () => writePortRange(FOREIGN))
    undo(started())
    expect(portRange()).toEqual(FOREIGN)
  })

  it('after SIGKILL, puts the port range back if the next start shares nothing', async () => {
    await killed()
    started({ hostPortRange: null })
    expect(portRange()).toEqual(DEBIAN)
  })

  it('belongs to one running natloom', async () => {
    const child = await running()
    expect(codeOf(() => new Host(plan).prepare())).toBe('HOST_IN_USE')
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(codeOf(() => new Host(plan).prepare())).toBeUndefined()
  })

  it('is not looked for where the dead one’s namespace is another', async () => {
    await killed()
    const other = testNamespace('host-other')
    try {
      expect(inside(other, () => new Host(plan).prepare())).toBe(false)
    } finally {
      other.delete()
    }
  })

  it('is never guessed from a state file that can’t be read', () => {
    undo(started())
    for (const text of ['', '{"format":', '{"format":2}', 'null']) {
      writeFileSync(plan.statePath ?? '', text)
      expect(
        codeOf(() => new Host(plan).prepare()),
        text,
      ).toBe('HOST_STATE')
    }
    rmSync(plan.statePath ?? '')
  })

  it('follows addresses, and ports that NAT and the host both have', () => {
    const host = started()
    const contested = [{ protocol: 6, port: 20480 }]
    inside(gateway, () => host.update({ shared: [addr('203.0.113.7')] }))
    expect(rules()).not.toContain('20480')
    inside(gateway, () => host.contest(contested))
    expect(rules()).toContain('203.0.113.7 meta l4proto { tcp, udp } th dport 16384-60991 drop')
    expect(rules()).toContain('203.0.113.7 tcp dport 20480 drop')
    expect(rules()).not.toContain('203.0.113.2')
    inside(gateway, () => host.contest([]))
    expect(rules()).not.toContain('20480')
  })

  describe('while it runs', () => {
    const look = (host: Host) => inside(gateway, () => host.lookAtSettings())

    it('is set again where somebody has changed it, which is said; and nothing is said while nobody has', () => {
      const pool = [addr('203.0.113.50'), addr('203.0.113.51')]
      const host = started({ pool })
      expect(look(host)).toEqual([])
      inside(gateway, () => writePortRange(DEBIAN))
      gateway.ip('route del local 203.0.113.51 dev wan0 table local proto 99')
      rmSync(plan.statePath ?? '')
      expect(look(host)).toEqual([
        { what: 'state-file', was: 'removed' },
        { what: 'port-range', was: '32768-60999' },
        { what: 'pool-route', was: 'of 203.0.113.51 removed' },
      ])
      expect([portRange(), poolRoutes().length, stateExists()]).toEqual([MOVED, 2, true])
      expect(look(host)).toEqual([])
      expect(undo(host)).toEqual([])
      expectNothingLeft()
    })

    it('has a port range that somebody wants instead: at stop that one is set, also after a kill', () => {
      const host = started()
      inside(gateway, () => writePortRange(FOREIGN))
      expect(look(host)).toEqual([{ what: 'port-range', was: '20000-30000' }])
      expect(portRange()).toEqual(MOVED)
      // As after a kill: another object takes over what the file says.
      const state = JSON.parse(readFileSync(plan.statePath ?? '', 'utf8'))
      expect(state.portRange).toEqual({ original: FOREIGN, set: MOVED })
      undo(host)
      expect(portRange()).toEqual(FOREIGN)
    })

    it('leaves a port range alone that is not NAT’s, also at stop', () => {
      const beside = { from: 61000, to: 61999 }
      const host = started()
      inside(gateway, () => writePortRange(beside))
      expect(look(host)).toEqual([])
      undo(host)
      expect(portRange()).toEqual(beside)
    })

    it('lays pool routes again after their interface was down, made anew or renamed, and takes them back', () => {
      const host = started({ shared: [], pool: [addr('203.0.113.50')] })
      gateway.ip('link set wan0 down')
      gateway.ip('link set wan0 up')
      look(host)
      expect(poolRoutes()).toHaveLength(1)
      gateway.ip('link delete wan0')
      expect(look(host)).toEqual([])
      connect()
      expect(look(host)).toEqual([{ what: 'pool-route', was: 'of 203.0.113.50 removed' }])
      gateway.ip('addr add 203.0.113.50/24 dev wan0')
      expect(look(host)).toEqual([])
      expect(poolRoutes()).toEqual([])
      expect(undo(host)).toEqual([])
      expectNothingLeft()
    })

    it('is not set again after the stop', () => {
      const host = started()
      undo(host)
      expect(look(host)).toEqual([])
      expectNothingLeft()
    })
  })

  it('leaves a pool address to the interface that has it, and lays routes again when the interface is back', () => {
    const host = started({ shared: [], pool: [addr('203.0.113.50'), addr('203.0.113.51')] })
    gateway.ip('addr add 203.0.113.51/24 dev wan0')
    inside(gateway, () => host.update())
    expect(poolRoutes()).toEqual([expect.stringContaining('203.0.113.50')])
    gateway.ip('link delete wan0')
    inside(gateway, () => host.update())
    expect(poolRoutes()).toEqual([])
    connect()
    inside(gateway, () => host.update())
    expect(poolRoutes()).toHaveLength(2)
    expect(undo(host)).toEqual([])
    expectNothingLeft()
  })

  it('leaves other rules and other local routes alone', () => {
    gateway.exec('nft', 'add table ip mine')
    gateway.ip('route add local 203.0.113.60 dev wan0 table local')
    gateway.ip('route add local 203.0.113.61 dev wan0 table local proto 99')
    const host = started({ pool: [addr('203.0.113.60')] })
    undo(host)
    expect(rules()).toContain('table ip mine')
    expect(gateway.ip('route show table local')).toMatch(/203\.0\.113\.60 .*\n.*203\.0\.113\.61/)
  })

  it('is taken back as far as possible if one step fails, and the rest by the next attempt', async () => {
    await killed({ pool: [addr('203.0.113.50')] })
    const path = plan.statePath ?? ''
    const state = readFileSync(path, 'utf8')
    writeFileSync(path, state.replace('netdev natloom', 'no such'))
    const hindered = new Host(plan)
    inside(gateway, () => hindered.prepare())
    expect(undo(hindered)).toEqual([expect.stringMatching(/names a table no such, which is none/)])
    expect([portRange(), rules(), poolRoutes().length, stateExists()]).toEqual([DEBIAN, '', 0, true])
    writeFileSync(path, state)
    const next = new Host(plan)
    inside(gateway, () => next.prepare())
    expect(undo(next)).toEqual([])
    expectNothingLeft()
  })
})
