import { describe, expect, it } from 'vitest'
import { frame } from '../../src/testing/builder.ts'
import { transportChecksumOk } from '../../src/wire/checksum.ts'
import * as icmp from '../../src/wire/icmp.ts'
import { atEnd, viewOf } from './memory.ts'

describe('types', () => {
  const table = [
    // type                      is          answers
    [icmp.ECHO_REPLY, 'reply', icmp.ECHO_REQUEST],
    [1, 'neither', -1],
    [2, 'neither', -1],
    [icmp.UNREACHABLE, 'error', -1],
    [icmp.SOURCE_QUENCH, 'error', -1],
    [icmp.REDIRECT, 'error', -1],
    [icmp.ECHO_REQUEST, 'query', -1],
    [9, 'neither', -1],
    [10, 'neither', -1],
    [icmp.TIME_EXCEEDED, 'error', -1],
    [icmp.PARAMETER_PROBLEM, 'error', -1],
    [icmp.TIMESTAMP_REQUEST, 'query', -1],
    [icmp.TIMESTAMP_REPLY, 'reply', icmp.TIMESTAMP_REQUEST],
    [icmp.INFORMATION_REQUEST, 'query', -1],
    [icmp.INFORMATION_REPLY, 'reply', icmp.INFORMATION_REQUEST],
    [icmp.MASK_REQUEST, 'query', -1],
    [icmp.MASK_REPLY, 'reply', icmp.MASK_REQUEST],
    [30, 'neither', -1],
    [32, 'neither', -1],
    // The same in their low five bits as types that mean something.
    [32 + 3, 'neither', -1],
    [32 + 8, 'neither', -1],
    [255, 'neither', -1],
  ] as const
  for (const [type, kind, answers] of table)
    it(`${type} is ${kind}${answers < 0 ? '' : `, to ${answers}`}`, () => {
      expect([icmp.isError(type), icmp.isQuery(type), icmp.isReply(type)]).toEqual([
        kind === 'error',
        kind === 'query',
        kind === 'reply',
      ])
      expect(icmp.queryOf(type)).toBe(answers)
    })
})

describe('a header', () => {
  it('of a query is read field by field', () => {
    const { mem, end } = atEnd(Uint8Array.of(8, 1, 0x12, 0x34, 0x56, 0x78, 0x00, 0x09))
    expect(icmp.fits(mem, 0, end)).toBe(true)
    expect(icmp.fits(mem, 0, end - 1)).toBe(false)
    expect(icmp.type(mem, 0)).toBe(icmp.ECHO_REQUEST)
    expect(icmp.code(mem, 0)).toBe(1)
    expect(icmp.checksum(mem, 0)).toBe(0x3412)
    expect(icmp.id(mem, 0)).toBe(0x7856)
    expect(icmp.seq(mem, 0)).toBe(9)
  })

  it('of an error has the next-hop MTU, and with extensions the length of the embedded packet', () => {
    const { mem } = atEnd(Uint8Array.of(3, 4, 0, 0, 0, 32, 0x05, 0xdc))
    expect(icmp.nextHopMtu(mem, 0)).toBe(1500)
    expect(icmp.originalLength(mem, 0)).toBe(128)
  })

  it('of an error is written before the embedded packet, the checksum last', () => {
    const embedded = frame({ ip: { src: '10.0.0.5', dst: '192.0.2.1' }, udp: { sport: 5000, dport: 53 } }).subarray(
      14,
      42,
    )
    const ip = { src: '10.0.0.1', dst: '10.0.0.5' }
    const expected = frame({ ip, icmp: { type: 3, code: 4, mtu: 1400, embedded } })
    const made = expected.slice()
    made.fill(0xee, 34, 42)
    const { mem, ipAt } = viewOf(made)
    icmp.writeError(mem, ipAt + 20, icmp.UNREACHABLE, icmp.FRAGMENTATION_NEEDED, 1400)
    icmp.writeChecksum(mem, ipAt + 20, icmp.EMBEDDED + embedded.length)
    expect(made).toEqual(expected)
    expect(transportChecksumOk(mem, ipAt)).toBe(true)
  })

  it('of a parameter problem has its pointer in the first byte', () => {
    const { mem } = atEnd(new Uint8Array(8))
    icmp.writeError(mem, 0, icmp.PARAMETER_PROBLEM, 0, 0xc8 << 24)
    expect(new Uint8Array(mem.buffer)).toEqual(Uint8Array.of(12, 0, 0, 0, 0xc8, 0, 0, 0))
  })
})
