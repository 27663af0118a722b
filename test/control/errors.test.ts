import { describe, expect, it } from 'vitest'
import { ConfigError } from '../../src/control/config.ts'
import { explain } from '../../src/control/errors.ts'
import { HostError } from '../../src/host/errors.ts'
import { AfPacketError } from '../../src/io/errors.ts'
import { SystemCallError } from '../../src/io/syscalls.ts'
import { MetricsError } from '../../src/metrics/server.ts'

describe('an error that its class explains', () => {
  const explained = [
    // error                                                                      exit code
    [new ConfigError([{ where: 'NATLOOM_IO', what: 'is wrong' }]), 2],
    [new HostError('HOST_TOOL', 'the program nft is missing: install it'), 3],
    [new AfPacketError('interface-missing', 'there is no interface lan7 here'), 3],
    [new MetricsError('METRICS_ADDRESS_IN_USE', 'metrics.listen is taken'), 3],
    [Object.assign(new Error('the shard ended'), { code: 'SHARD_LOST', exitCode: 4 }), 4],
  ] as const
  for (const [error, exitCode] of explained)
    it(`is told by its message alone: ${error.name}, exit code ${exitCode}`, () => {
      expect(explain(error)).toEqual({ text: `natloom: ${error.message}`, exitCode })
    })
})

describe('a right that is missing', () => {
  for (const errno of [1, 13])
    it(`is told with the rights that natloom needs (errno ${errno}), exit code 3`, () => {
      const { text, exitCode } = explain(new SystemCallError('bind', errno))
      expect(text).toMatch(/^natloom: bind: E\w+: not permitted\n.*CAP_NET_ADMIN and CAP_NET_RAW.*root/)
      expect(exitCode).toBe(3)
    })
})

describe('what the host lacks', () => {
  const lacks = [
    ['mmap', 12, 'ENOMEM: the host has not enough memory: lower io.ringMegabytes, capacity.connections or workers'],
    ['socket', 24, 'EMFILE: this process may open no more files: raise its limit (ulimit -n, LimitNOFILE of the unit)'],
    ['open', 30, 'EROFS: the file system is read-only'],
  ] as const
  for (const [call, errno, text] of lacks)
    it(`is told without a stack, exit code 3: ${call}`, () => {
      expect(explain(new SystemCallError(call, errno))).toEqual({ text: `natloom: ${call}: ${text}`, exitCode: 3 })
    })
})

describe('any other error is a fault of natloom: exit code 1 and the stack', () => {
  const faults = [
    new TypeError('x is not a function'),
    new SystemCallError('mmap', 22),
    Object.assign(new Error('bad argument'), { code: 'ERR_INVALID_ARG_TYPE' }),
  ]
  for (const fault of faults)
    it(fault.message, () => {
      const { text, exitCode } = explain(fault)
      expect(text).toContain(fault.stack)
      expect(exitCode).toBe(1)
    })

  it('even what is no Error', () => {
    expect(explain('out of luck')).toEqual({ text: 'natloom: out of luck', exitCode: 1 })
  })
})
