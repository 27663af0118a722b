// What the shard that goes on with a dead one's memory makes again (nat/recover.shard.ts). Crashes inside a change are
// in datapath/crash.long.test.ts; here the shard dies between two packets.

import { describe, expect, it } from 'vitest'
import { Gateway } from '../datapath/gateway.ts'
import { EXTERNAL, HOST, LAN, SERVER, WAN } from '../datapath/network.ts'
import { fromOf, tcpSegment, udp } from '../datapath/packets.ts'
import { connectionsOf, mappingsOf } from '../datapath/tables.ts'

const TO = `${SERVER}:80`
const ONE_BLOCK = [20_480, 20_543] as const
const at = (port: number): string => `${HOST}:${port}`

async function crash(gateway: Gateway): Promise<void> {
  await gateway.restart()
  gateway.turn()
  gateway.check()
}

function tcp(gateway: Gateway, port: number, upTo: 'syn' | 'established'): string {
  const external = fromOf(gateway.inside(tcpSegment(at(port), TO, 'S'))[0]!)
  if (upTo === 'syn') return external
  gateway.outside(tcpSegment(TO, external, 'SA'))
  gateway.inside(tcpSegment(at(port), TO, 'A'))
  return external
}

const left = (gateway: Gateway): number[] =>
  connectionsOf(gateway.tables)
    .map(({ original }) => Number(/^[^:]*:(\d+)/.exec(original)![1]))
    .sort((a, b) => a - b)

describe('after a crash', () => {
  it('a connection goes on by the same external endpoint, with its state, times and counts', async () => {
    const gateway = await Gateway.start()
    const external = tcp(gateway, 1, 'established')
    gateway.pass(3000)
    const before = connectionsOf(gateway.tables)
    await crash(gateway)
    expect(connectionsOf(gateway.tables)).toEqual(before)
    expect(fromOf(gateway.inside(tcpSegment(at(1), TO, 'PA'))[0]!)).toBe(external)
    expect(gateway.fate(WAN, tcpSegment(TO, external, 'PA'))).toBe('sent')
  })

  it('who was permitted may still send, and nobody else', async () => {
    const gateway = await Gateway.start()
    const external = fromOf(gateway.inside(udp(at(1), TO))[0]!)
    await crash(gateway)
    expect(gateway.fate(WAN, udp(`${SERVER}:9`, external))).toBe('sent')
    expect(gateway.fate(WAN, udp('198.51.100.7:9', external))).toBe('filtered')
    expect(fromOf(gateway.inside(udp(at(1), '198.51.100.7:9'))[0]!)).toBe(external)
    gateway.check()
  })

  it('a mapping that has ended lets nobody in, and lasts while a connection goes by it', async () => {
    const gateway = await Gateway.start({ nat: { filtering: 'endpoint-independent' } })
    const caller = '198.51.100.7:1000'
    const external = fromOf(gateway.inside(udp(at(1), TO))[0]!)
    gateway.pass(200)
    gateway.outside(udp(caller, external))
    // What made the mapping is over; the caller, in the same burst, is answered by it all the same.
    gateway.jump(100)
    gateway.burst(LAN, [udp(at(1), TO), udp(at(1), caller)])
    await crash(gateway)
    expect(mappingsOf(gateway.tables).filter(({ ended }) => ended)).toMatchObject([{ external, rows: 1, holders: 1 }])
    expect(gateway.fate(WAN, udp(caller, external))).toBe('sent')
    expect(gateway.fate(WAN, udp('198.51.100.7:1001', external))).toBe('no-mapping')
    gateway.check()
  })

  it('closed connections make room in order of their last packets, then unreplied ones by their first', async () => {
    const gateway = await Gateway.start({ ports: ONE_BLOCK })
    const externals = new Map<number, string>()
    for (let port = 1; port <= 60; port++) externals.set(port, tcp(gateway, port, 'established'))
    for (const port of [64, 62, 63, 61]) {
      externals.set(port, tcp(gateway, port, 'syn'))
      gateway.jump(2)
    }
    for (const port of [20, 10, 30]) {
      gateway.outside(tcpSegment(TO, externals.get(port)!, 'R'))
      gateway.jump(2)
    }
    await crash(gateway)
    const gone: number[] = []
    for (let port = 100; port < 105; port++) {
      const before = left(gateway)
      tcp(gateway, port, 'established')
      const after = left(gateway)
      gone.push(...before.filter((each) => !after.includes(each)))
    }
    expect(gone).toEqual([20, 10, 30, 64, 62])
    gateway.check()
  })

  it('a freed UDP port is still in quarantine', async () => {
    const gateway = await Gateway.start({ ports: ONE_BLOCK, nat: { parity: false } })
    for (let port = 1; port <= 64; port++) gateway.inside(udp(at(port), TO))
    gateway.pass(310)
    expect(gateway.counter('portsResting', 1)).toBe(64)
    await crash(gateway)
    expect(gateway.counter('portsResting', 1)).toBe(64)
    expect(gateway.fate(LAN, udp(at(1), TO))).toBe('no-port')
    gateway.pass(125)
    expect(gateway.fate(LAN, udp(at(1), TO))).toBe('sent')
    gateway.check()
  })

  it('connections end whose address was lost while nobody was there', async () => {
    const gateway = await Gateway.start({ pool: ['203.0.113.21'] })
    tcp(gateway, 1, 'established')
    gateway.externals.remove(0)
    await crash(gateway)
    expect(connectionsOf(gateway.tables)).toEqual([])
    expect(mappingsOf(gateway.tables)).toEqual([])
  })

  it('ports are chosen by other random numbers than before', async () => {
    const gateway = await Gateway.start({ nat: { parity: false } })
    const chosen = (): string[] => {
      const ports = [1, 2, 3, 4, 5, 6, 7, 8].map((port) => tcp(gateway, port, 'syn'))
      for (const external of ports) gateway.outside(tcpSegment(TO, external, 'RA'))
      expect(connectionsOf(gateway.tables)).toEqual([])
      return ports
    }
    const first = chosen()
    await crash(gateway)
    const second = chosen()
    expect(second.filter((port, i) => port === first[i])).toEqual([])
    expect(second.every((port) => port.startsWith(EXTERNAL))).toBe(true)
  })

  it('counters go on where they were', async () => {
    const gateway = await Gateway.start()
    tcp(gateway, 1, 'established')
    gateway.outside(tcpSegment(TO, tcp(gateway, 2, 'syn'), 'RA'))
    const counts = () =>
      (
        ['connections', 'connectionsInserted', 'connectionsExpired', 'mappings', 'portsUsed', 'sentPackets'] as const
      ).map((key) => gateway.counter(key))
    const before = counts()
    await crash(gateway)
    expect(counts()).toEqual(before)
  })
})
