// The reference that natloom's fragments are held against (fragment-sequences.ts), held against the kernel: in a
// namespace, the same sequences of fragments go to a socket, and the kernel puts together those datagrams that the
// reference does, and no others. With one difference: of a fragment whose bytes have all come, but in several fragments
// out of order, Linux says that it overlaps (inet_fragment.c looks at one run of them), and ends the datagram. Here it
// is a duplicate whatever the order was, since none of it goes on.

import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Namespace, run } from '../../../src/lab/world/namespace.ts'
import { testNamespace } from '../../leftovers.ts'
import { HOST, SERVER } from '../network.ts'
import { decode } from '../packets.ts'
import { INTRUDERS, inserted, intruder, PIECES, permutations, pieces, SIZE } from './fragment-sequences.ts'
import { Reassembly } from './reassembly.ts'

const ETHERNET = 14
/**
 * Sends each line's packets in order, then a whole datagram that says that they are through; prints which lines' were
 * delivered. Loopback delivers in order on one processor.
 */
const PEER = `
import os, socket, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
receiver = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
receiver.settimeout(120)
through = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for number, line in enumerate(sys.stdin):
    for packet in line.split():
        raw.sendto(bytes.fromhex(packet), ('${SERVER}', 0))
    through.sendto(b'through', ('${SERVER}', 53))
    while not receiver.recv(65535).endswith(b'through'):
        print(number)
`

let host: Namespace
beforeAll(() => {
  host = testNamespace('frag')
  host.ip(`addr add ${SERVER}/32 dev lo`)
  host.ip(`addr add ${HOST}/32 dev lo`)
  host.exec('sysctl', '-qw', 'net.ipv4.ipfrag_high_thresh=268435456')
})
afterAll(() => host?.delete())

/** The bytes of a fragment that comes to a place in this order have all come before. */
const hasCome = (before: readonly number[], offset: number, length: number): boolean =>
  Array.from({ length: Math.ceil(length / SIZE) + 1 }, (_, i) => Math.floor(offset / SIZE) + i)
    .filter((n) => n * SIZE < offset + length)
    .every((n) => before.includes(n))

it('every order of five fragments, each twice, and what overlaps them, at every place', () => {
  let id = 0
  const sequences: { sent: Uint8Array[]; mayDiffer: boolean }[] = []
  for (const order of permutations(Array.from({ length: PIECES }, (_, i) => i))) {
    for (let twice = 0; twice < PIECES; twice++)
      for (const sequence of inserted(order, twice)) {
        const its = pieces(++id)
        sequences.push({ sent: sequence.map((n) => its[n]!), mayDiffer: false })
      }
    for (const [, offset, length, more] of INTRUDERS)
      for (let place = 0; place <= PIECES; place++) {
        const its = pieces(++id).map((_, i, all) => all[order[i]!]!)
        its.splice(place, 0, intruder(id, offset, length, more))
        sequences.push({ sent: its, mayDiffer: length > 8 && hasCome(order.slice(0, place), offset, length) })
      }
  }
  const hex = (frame: Uint8Array): string => Buffer.from(frame.subarray(ETHERNET)).toString('hex')
  const lines = sequences.map(({ sent }) => `${sent.map(hex).join(' ')}\n`).join('')
  const delivered = run('ip', ['netns', 'exec', host.name, 'python3', '-c', PEER], lines)
  const byKernel = new Set(delivered.trim().split('\n').map(Number))
  const differences = sequences.flatMap(({ sent, mayDiffer }, number) => {
    const reference = new Reassembly()
    for (const piece of sent) reference.add(decode(piece))
    const isWhole = reference.body !== undefined
    return isWhole === byKernel.has(number) ? [] : [{ number, isWhole, mayDiffer }]
  })
  expect(differences.filter(({ isWhole, mayDiffer }) => !isWhole || !mayDiffer)).toEqual([])
  expect(byKernel.size).toBeGreaterThan(3600)
})
