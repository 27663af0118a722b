// The program where interfaces receive: packets of hosts through a gateway whose kernel forwards nothing. Both ways of
// attaching work on a kernel that has tcx.

import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { close, interfaceIndex } from '../../src/io/syscalls.ts'
import { type Namespace, veth } from '../../src/lab/world/namespace.ts'
import { loadProgram } from '../../src/offload/bpf.ts'
import { exit, op, R0, step } from '../../src/offload/ebpf.ts'
import { assemble } from '../../src/offload/ebpf-assembler.ts'
import { OffloadError } from '../../src/offload/errors.ts'
import { attach, type Way } from '../../src/offload/links.ts'
import { FarEnd, inside, quietNamespace } from '../io/far-end.ts'
import { eventually } from '../patience.ts'
import { Tun } from './tun.ts'
import {
  GATEWAY_MACS,
  HOST_MACS,
  INTERFACES,
  type Kind,
  Offload,
  type OffloadOptions,
  type Protocol,
  packetOf,
} from './two-hosts.ts'

const PROCESS = fileURLToPath(new URL('../../dist/test/offload/offload-process.js', import.meta.url))
const COUNTED = 'table netdev seen { chain lan { type filter hook ingress device lan0 priority 0; counter; }; }'

const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 7)
const KINDS: readonly (readonly [string, Kind])[] = [
  ['of one byte', { payload: bytes(1), rest: {} }],
  ['as long as the MTU', { payload: bytes(1460), rest: {} }],
  ['whose sum the link is to compute', { payload: bytes(700), rest: { partialChecksum: true } }],
  ['that are super-packets', { payload: bytes(9000), rest: { gso: { size: 1000 } } }],
]

describe('a program attached to both interfaces of a gateway', () => {
  const hosts: Namespace[] = []
  const ends: FarEnd[] = []
  let gateway: Namespace

  beforeAll(() => {
    gateway = quietNamespace('offload-gateway')
    hosts.push(gateway)
    for (const side of [0, 1] as const) {
      const host = quietNamespace(`offload-host${side}`)
      hosts.push(host)
      veth(gateway, INTERFACES[side], host, 'eth0')
      gateway.ip(`link set ${INTERFACES[side]} address ${GATEWAY_MACS[side]}`)
      host.ip(`link set eth0 address ${HOST_MACS[side]}`)
      ends.push(new FarEnd(host, 'eth0'))
    }
    gateway.exec('nft', COUNTED)
  })
  afterAll(() => {
    for (const end of ends) end.close()
    for (const host of hosts) host.delete()
  })

  /** Sends a packet from a side; what the other side gets. */
  function pass(protocol: Protocol, side: 0 | 1, kind: Kind): void {
    const { sent, wanted } = packetOf(protocol, side, kind)
    const header = (frame: Uint8Array): Uint8Array => new Uint8Array(frame.buffer, frame.byteOffset - 10, 10)
    ends[side]!.send(sent, header(sent))
    const [got] = ends[1 - side]!.collect(1)
    expect(Buffer.from(got!.frame).toString('hex')).toBe(Buffer.from(wanted).toString('hex'))
    // What is still to be done with the checksum, and where segments end.
    const offloads = (virtio: Uint8Array): number[] => [virtio[0]! & 1, virtio[1]!, ...virtio.subarray(4, 6)]
    expect(offloads(got!.header)).toEqual(offloads(header(wanted)))
  }

  /** How many packets have got past the program, to where nft sees them. */
  const passedBy = (): number =>
    Number(/packets (\d+)/.exec(gateway.exec('nft', 'list', 'chain', 'netdev', 'seen', 'lan'))![1])
  const small: Kind = KINDS[0]![1]
  /** A packet from inside gets past the program. */
  async function getsPast(): Promise<void> {
    const before = passedBy()
    const { sent } = packetOf('udp', 0, small)
    ends[0]!.send(sent)
    await eventually('the packet gets past the program', () => passedBy() > before)
  }
  /** How many packets the gateway has sent by an interface: those that it hands to a peer aren't. */
  const sentBy = (name: string): number => {
    const [link] = JSON.parse(gateway.ip(`-j -s link show ${name}`)) as { stats64: { tx: { packets: number } } }[]
    return link!.stats64.tx.packets
  }
  const filters = (): string => gateway.exec('tc', 'filter', 'show', 'dev', 'lan0', 'ingress')
  const qdiscs = (): string => gateway.exec('tc', 'qdisc', 'show', 'dev', 'lan0')
  const startedWith = (options: OffloadOptions): Offload => inside(gateway, () => new Offload(options))
  const started = (way: Way): Offload => startedWith({ way })

  describe.each(['tcx', 'clsact'] as const)('by %s', (way) => {
    it.each(KINDS)('sends packets %s, translated, of UDP and TCP, both ways', (_, kind) => {
      const offload = started(way)
      const before = passedBy()
      try {
        expect(offload.attachments.map((attachment) => attachment.way)).toEqual([way, way])
        for (const protocol of ['udp', 'tcp'] as const)
          for (const side of [0, 1] as const) {
            pass(protocol, side, kind)
            pass(protocol, side, kind)
            const slot = offload.flows[protocol][side]
            offload.slots.take(slot)
            const { length } = packetOf(protocol, side, kind).sent
            expect([offload.slots.packets, offload.slots.bytes]).toEqual([2, 2 * (length - 14)])
          }
        expect(passedBy()).toBe(before)
      } finally {
        offload.detach()
      }
    })

    it('leaves nothing when it is taken away', async () => {
      const before = qdiscs()
      const offload = started(way)
      pass('udp', 0, small)
      offload.detach()
      expect([filters(), qdiscs()]).toEqual(['', before])
      await getsPast()
    })

    it('leaves nothing that acts when its process is killed, and nothing at all after the next start', async () => {
      const before = qdiscs()
      const child = gateway.spawn(process.execPath, [PROCESS, way])
      await once(child.stdout!, 'data')
      pass('udp', 0, small)
      expect(filters() === '').toBe(way === 'tcx')
      child.kill('SIGKILL')
      await once(child, 'exit')
      // The kernel lets go of a dead process's descriptors by itself, in its own time.
      await eventually('a packet gets past what is left', () => {
        const count = passedBy()
        ends[0]!.send(packetOf('udp', 0, small).sent)
        return passedBy() > count
      })
      ends[1]!.drain()
      const offload = started(way)
      pass('udp', 0, small)
      offload.detach()
      expect([filters(), qdiscs()]).toEqual(['', before])
    })
  })

  it.each(KINDS)('hands packets %s to the other end of a peer hop', (_, kind) => {
    const offload = startedWith({ peer: true })
    const before = sentBy('wan0')
    try {
      for (const protocol of ['udp', 'tcp'] as const) for (const side of [0, 1] as const) pass(protocol, side, kind)
      expect(sentBy('wan0')).toBe(before)
    } finally {
      offload.detach()
    }
  })

  it('sends by a link without Ethernet too, and there without its header', async () => {
    const tun = inside(gateway, () => new Tun('tun1'))
    gateway.ip('link set tun1 up')
    const offload = startedWith({ leavesBy: 'tun1' })
    try {
      for (const protocol of ['udp', 'tcp'] as const) {
        const { sent, wanted } = packetOf(protocol, 0, small)
        ends[0]!.send(sent)
        expect(await tun.next()).toBe(Buffer.from(wanted.subarray(14)).toString('hex'))
      }
    } finally {
      offload.detach()
      tun.close()
    }
  })

  const tc = (...args: string[]): string => gateway.exec('tc', ...args)
  /** An administrator's filter, which matches nothing. */
  const addFilter = (preference: number): string => {
    const place = ['pref', String(preference), 'protocol', 'ip', 'handle', '1']
    return tc('filter', 'add', 'dev', 'lan0', 'ingress', ...place, 'bpf', 'bytecode', '1,6 0 0 0')
  }

  it('leaves an administrator’s clsact and filters where they are', () => {
    tc('qdisc', 'add', 'dev', 'lan0', 'clsact')
    try {
      addFilter(7)
      const before = filters()
      started('clsact').detach()
      expect(filters()).toBe(before)
      tc('filter', 'del', 'dev', 'lan0', 'ingress')
      started('clsact').detach()
      expect(qdiscs()).toContain('clsact')
    } finally {
      tc('qdisc', 'del', 'dev', 'lan0', 'clsact')
    }
  })

  describe('is refused', () => {
    const codeOf = (work: (program: number) => void): string => {
      const program = loadProgram('natloom_test', assemble([step('all', op(R0, '=', -1), exit())]).code)
      try {
        inside(gateway, () => work(program))
      } catch (error) {
        if (error instanceof OffloadError) return error.code
        throw error
      } finally {
        close(program)
      }
      return 'none'
    }

    it('where there is no interface, or no Ethernet', () => {
      expect(codeOf((program) => attach(program, 9999))).toBe('OFFLOAD_INTERFACE')
      gateway.ip('tuntap add dev tun0 mode tun')
      expect(codeOf((program) => attach(program, interfaceIndex('tun0')))).toBe('OFFLOAD_INTERFACE')
    })

    it('where another filter has its place', () => {
      tc('qdisc', 'add', 'dev', 'lan0', 'clsact')
      try {
        addFilter(0x6e6c)
        expect(codeOf((program) => attach(program, interfaceIndex('lan0'), 'clsact'))).toBe('OFFLOAD_INTERFACE')
      } finally {
        tc('qdisc', 'del', 'dev', 'lan0', 'clsact')
      }
    })
  })
})
