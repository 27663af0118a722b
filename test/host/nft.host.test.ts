import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RuleTables, tableNames, waysOfOwning } from '../../src/host/rule-tables.ts'
import { type Namespace, veth } from '../../src/lab/world/namespace.ts'
import { testNamespace } from '../leftovers.ts'
import { PATIENCE_MS } from '../patience.ts'
import { addr, inside } from './inside.ts'
import { RULES } from './rule-set.ts'
import { Socket } from './sockets-inside.ts'

const GRE = 47
const ICMP = 1
const UDP = 17

/** The code of an ICMP destination unreachable in an IPv4 packet: 0 network, 3 port. */
const unreachableCode = (packet: string): number => (packet.charCodeAt(20) === 3 ? packet.charCodeAt(21) : -1)

describe('rules that hide from the kernel what natloom carries', () => {
  let tables: RuleTables
  let gateway: Namespace
  const hosts = new Map<string, Namespace>()
  const opened: Socket[] = []
  const host = (name: string): Namespace => hosts.get(name) ?? gateway
  const open = (made: Socket): Socket => {
    opened.push(made)
    return made
  }

  // host, its address, the gateway's interface and address there
  const LINKS = [
    ['lan', '10.0.0.5', 'lan0', '10.0.0.1'],
    ['lan2', '10.0.1.5', 'lan1', '10.0.1.1'],
    ['wan', '203.0.113.9', 'wan0', '203.0.113.2'],
    ['third', '198.51.100.5', 'vpn0', '198.51.100.1'],
  ] as const

  beforeAll(() => {
    gateway = testNamespace('nft-gw')
    for (const [name, address, port, here] of LINKS) {
      const namespace = testNamespace(`nft-${name}`)
      hosts.set(name, namespace)
      veth(gateway, port, namespace, 'eth0')
      gateway.ip(`addr add ${here}/24 dev ${port}`)
      namespace.ip(`addr add ${address}/24 dev eth0`)
      namespace.ip(`route add default via ${here}`)
    }
    gateway.exec('sysctl', '-q', '-w', 'net.ipv4.ip_forward=1')
    gateway.ip('route add local 203.0.113.50 dev wan0 table local proto 99')
  })

  afterAll(() => {
    tables?.close()
    for (const each of opened) each.close()
    for (const namespace of [gateway, ...hosts.values()]) namespace?.delete()
  })

  /**
   * Sends one datagram and then a marker that the kernel carries whatever our rules say; true if the datagram arrived
   * before the marker did. `at` is where it is waited for: a host with a socket on the port, the gateway included, or
   * `kernel`, the gateway without such a socket.
   */
  function arrives(from: string, destination: string, port: number, at: string): boolean {
    const listener = open(at === 'kernel' ? Socket.raw(gateway, UDP) : Socket.udp(host(at), port))
    // Sent towards the third interface, by the longer path, so that it can't overtake. If the third host itself
    // listens, it goes to that host's port 9.
    const marker = open(Socket.udp(host('third'), 9))
    open(Socket.udp(host(from)))
      .to(destination, port)
      .send('probe')
    open(Socket.udp(host(from)))
      .to('198.51.100.5', 9)
      .send('marker')
    marker.wait()
    const texts = listener.received()
    for (const each of opened.splice(0)) each.close()
    return texts.some((text) => text.endsWith('probe'))
  }

  const CARRIED_BY_NATLOOM = [
    ['from inside to outside', 'lan', '203.0.113.9', 5000, 'wan'],
    ['from outside to an inside address', 'wan', '10.0.0.5', 5000, 'lan'],
    ['from outside to a NAT port', 'wan', '203.0.113.2', 30000, 'kernel'],
    ['from outside to the first NAT port', 'wan', '203.0.113.2', 16384, 'kernel'],
    ['from outside to the last NAT port', 'wan', '203.0.113.2', 60991, 'kernel'],
    ['from outside to a contested port, on which the host has a socket', 'wan', '203.0.113.2', 20600, 'gateway'],
    ['from inside to a contested port, on which the host has a socket', 'lan', '203.0.113.2', 20600, 'gateway'],
    ['from outside to a pool address', 'wan', '203.0.113.50', 5000, 'gateway'],
    ['from outside to a forwarded port', 'wan', '203.0.113.2', 2121, 'gateway'],
    ['from inside to a forwarded port', 'lan', '203.0.113.2', 2121, 'gateway'],
    ['from inside to a NAT port (hairpin)', 'lan', '203.0.113.2', 30000, 'kernel'],
    ['from inside to a pool address', 'lan', '203.0.113.50', 5000, 'gateway'],
  ] as const
  const LEFT_TO_THE_KERNEL = [
    ['from outside to a service of the host', 'wan', '203.0.113.2', 5000, 'gateway'],
    ['from outside to a port of the host’s range', 'wan', '203.0.113.2', 60992, 'kernel'],
    ['from outside to a NAT port on which the host has a socket', 'wan', '203.0.113.2', 30000, 'gateway'],
    ['from inside to a NAT port on which the host has a socket', 'lan', '203.0.113.2', 30000, 'gateway'],
    ['from outside to a port that another protocol contests', 'wan', '203.0.113.2', 20601, 'gateway'],
    ['from outside through a third interface', 'wan', '198.51.100.5', 5000, 'third'],
    ['from inside to the host', 'lan', '10.0.0.1', 30000, 'kernel'],
    ['from inside to a service of the host at its outside address', 'lan', '203.0.113.2', 5000, 'gateway'],
    ['from inside to inside', 'lan', '10.0.1.5', 5000, 'lan2'],
    ['from inside through a third interface', 'lan', '198.51.100.5', 5000, 'third'],
  ] as const

  it('are needed: without them the kernel takes all of it', () => {
    for (const [what, from, destination, port, at] of [...CARRIED_BY_NATLOOM, ...LEFT_TO_THE_KERNEL])
      expect(arrives(from, destination, port, at), what).toBe(true)
    const icmp = open(Socket.raw(host('lan'), ICMP))
    open(Socket.udp(host('lan')))
      .to('192.0.2.1', 5000)
      .send('?')
    expect(icmp.wait().received().map(unreachableCode)).toEqual([0])
  })

  describe('in force', () => {
    beforeAll(() => {
      tables = inside(gateway, () => new RuleTables('natloom'))
      tables.apply(RULES)
    })

    for (const [what, from, destination, port, at] of CARRIED_BY_NATLOOM)
      it(`hide from the kernel what comes ${what}: port ${port}`, () =>
        expect(arrives(from, destination, port, at)).toBe(false))

    for (const [what, from, destination, port, at] of LEFT_TO_THE_KERNEL)
      it(`leave to the kernel what comes ${what}: port ${port}`, () =>
        expect(arrives(from, destination, port, at)).toBe(true))

    it('let a packet socket see what they drop', () => {
      const watching = open(Socket.packet(gateway, 'wan0'))
      open(Socket.udp(host('wan')))
        .to('203.0.113.2', 30000)
        .send('hidden from the kernel')
      const frames: string[] = []
      while (!frames.some((frame) => frame.endsWith('hidden from the kernel')))
        frames.push(...watching.wait().received())
    })

    it('keep the kernel from answering: no port unreachable for a NAT port, but for a closed port of the host', () => {
      const natPort = open(Socket.udp(host('wan'))).to('203.0.113.2', 30000)
      const closedPort = open(Socket.udp(host('wan'))).to('203.0.113.2', 5001)
      natPort.send('?')
      closedPort.send('?')
      expect(closedPort.wait().received()).toEqual(['error 111']) // ECONNREFUSED
      expect(natPort.received()).toEqual([])
    })

    it('keep the kernel from answering where there is no route: natloom does', () => {
      const icmp = open(Socket.raw(host('lan'), ICMP))
      open(Socket.udp(host('lan')))
        .to('192.0.2.1', 5000)
        .send('?')
      open(Socket.udp(host('lan')))
        .to('10.0.0.1', 5001)
        .send('?')
      expect(icmp.wait().received().map(unreachableCode)).toEqual([3])
    })

    it('hide a translated protocol at the shared address, and never ICMP', () => {
      const gre = open(Socket.raw(gateway, GRE))
      const icmp = open(Socket.raw(gateway, ICMP))
      open(Socket.raw(host('wan'), GRE))
        .to('203.0.113.2')
        .send('\0\0\0\0')
      open(Socket.raw(host('wan'), ICMP))
        .to('203.0.113.2')
        .send('\x08\0\xf7\xff\0\0\0\0') // an echo request
      icmp.wait()
      expect(gre.received()).toEqual([])
      open(Socket.raw(host('lan'), GRE))
        .to('10.0.0.1')
        .send('\0\0\0\0')
      expect(gre.wait().received()).toHaveLength(1)
    })

    it('are replaced without a moment in between, also by tables that are owned in another way', async () => {
      const listener = open(Socket.udp(host('wan'), 5000))
      const flood = `
        const socket = require('node:dgram').createSocket('udp4')
        let sent = 0
        const more = () => socket.send('flood', 5000, '203.0.113.9', () => {
          if (++sent === 1000) console.log('floods')
          more()
        })
        more()`
      const child = host('lan').spawn(process.execPath, ['-e', flood])
      await once(child.stdout!, 'data')
      for (let i = 0; i < 200; i++) tables.apply({ ...RULES, contested: i % 2 === 0 ? [] : RULES.contested })
      for (const way of ['pair', 'plain', 'persistent', 'plain', 'pair', 'persistent'] as const) {
        // As one that is killed, and the next start.
        tables.close()
        tables = inside(gateway, () => new RuleTables('natloom', waysOfOwning(way)))
        for (let i = 0; i < 10; i++) tables.apply(RULES)
      }
      child.kill()
      await once(child, 'exit')
      expect(listener.received()).toEqual([])
    })

    it('leave IPv6 alone, also on a link without Ethernet (TUN)', () => {
      gateway.ip('tuntap add tun0 mode tun')
      gateway.ip('addr add 2001:db8::1/64 dev tun0 nodad')
      gateway.ip('link set tun0 up')
      tables.apply({ ...RULES, outside: { names: ['wan0', 'tun0'], indexes: [] } })
      // Sends an echo request from 2001:db8::2 through the TUN, and prints the type of the ICMPv6 message that comes
      // back.
      const peer = `
import fcntl, os, select, struct
tun = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH', b'tun0', 0x1001))
there, here = bytes.fromhex('20010db8' + '0' * 23 + '2'), bytes.fromhex('20010db8' + '0' * 23 + '1')
def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total > 0xffff: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
echo = struct.pack('!BBHHH', 128, 0, 0, 1, 1)
echo = echo[:2] + struct.pack('!H', checksum(there + here + struct.pack('!II', len(echo), 58) + echo)) + echo[4:]
packet = b'\\0'
# The link needs a moment before it takes anything.
while not (packet[0] >> 4 == 6 and packet[6] == 58 and packet[24:40] == there):
    os.write(tun, struct.pack('!IHBB', 0x60000000, len(echo), 58, 64) + there + here + echo)
    if select.select([tun], [], [], 0.2)[0]: packet = os.read(tun, 2000)
print(packet[40])`
      expect(gateway.exec('timeout', String(PATIENCE_MS / 1000), 'python3', '-c', peer).trim()).toBe('129')
      tables.apply(RULES)
    })

    it('are replaced as a whole, and removed without a trace, also twice', () => {
      tables.apply({ ...RULES, shared: [addr('203.0.113.3')] })
      expect(arrives('wan', '203.0.113.2', 30000, 'kernel')).toBe(true)
      expect(arrives('wan', '203.0.113.50', 5000, 'gateway')).toBe(false)
      expect(gateway.exec('nft', 'list', 'ruleset').match(/chain/g)).toHaveLength(3)
      for (const table of [...tableNames('natloom'), ...tableNames('natloom')]) tables.remove(table)
      expect(gateway.exec('nft', 'list', 'tables')).toBe('')
      expect(arrives('lan', '203.0.113.9', 5000, 'wan')).toBe(true)
    })
  })
})
