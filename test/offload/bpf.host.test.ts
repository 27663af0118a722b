// What bpf(2) refuses, told as what is missing.

import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { close } from '../../src/io/syscalls.ts'
import { createSharedValue, loadProgram, viewOfValue } from '../../src/offload/bpf.ts'
import { exit, load, op, R0, R1, step } from '../../src/offload/ebpf.ts'
import { assemble } from '../../src/offload/ebpf-assembler.ts'
import { OffloadError } from '../../src/offload/errors.ts'
import { bucketsFor, MAX_SLOTS, valueBytes } from '../../src/offload/layout.ts'
import { offloadProgram } from '../../src/offload/program.ts'

const BPF = fileURLToPath(new URL('../../dist/src/offload/bpf.js', import.meta.url))
const PROGRAM = fileURLToPath(new URL('../../dist/src/offload/program.js', import.meta.url))

function refusalOf(work: () => unknown): OffloadError {
  try {
    work()
  } catch (error) {
    if (error instanceof OffloadError) return error
    throw error
  }
  return expect.fail('nothing is refused')
}

describe('bpf(2)', () => {
  it('takes as many slots as there can be, and maps them for others to read', () => {
    const buckets = bucketsFor(MAX_SLOTS)
    const map = createSharedValue('natloom_test', valueBytes(buckets))
    try {
      close(loadProgram('natloom_test', offloadProgram({ map: map.fd, side: 0, seed: 0xffffffff, buckets }).code))
      const [mine, other] = [viewOfValue(map), viewOfValue(map)].map((view) => new Int32Array(view))
      Atomics.store(mine!, mine!.length - 1, 42)
      expect(Atomics.load(other!, other!.length - 1)).toBe(42)
    } finally {
      close(map.fd)
    }
  })

  it('has no memory for more than the kernel takes', () => {
    const refusal = refusalOf(() => createSharedValue('natloom_test', 2 ** 32 - 4096))
    expect(refusal.code).toBe('OFFLOAD_MEMORY')
  })

  it('tells what the verifier says', () => {
    const wrong = assemble([step('beyond the packet', load(4, R0, R1, 76), load(4, R0, R0, 0), exit())])
    const refusal = refusalOf(() => loadProgram('natloom_test', wrong.code))
    expect(refusal.code).toBe('OFFLOAD_PROGRAM')
    expect(refusal.message).toMatch(/natloom_test:\n.*invalid access to packet/s)
  })

  it('takes programs that are longer than the pages that they are passed in', () => {
    const long = assemble([step('long', ...Array.from({ length: 4000 }, () => op(R0, '=', -1)), exit())])
    close(loadProgram('natloom_test', long.code))
  })

  it('takes the program with CAP_BPF and CAP_NET_ADMIN alone', () => {
    const script = `import { createSharedValue, loadProgram } from ${JSON.stringify(BPF)}
      import { offloadProgram } from ${JSON.stringify(PROGRAM)}
      const { fd } = createSharedValue('natloom_test', ${valueBytes(16)})
      for (const side of [0, 1])
        console.log(loadProgram('natloom_test', offloadProgram({ map: fd, side, seed: 7, buckets: 16 }).code) > fd)`
    const args = ['--bounding-set', '-all,+bpf,+net_admin', process.execPath, '--input-type=module', '--eval', script]
    expect(execFileSync('setpriv', args, { encoding: 'utf8' })).toBe('true\ntrue\n')
  })

  it('says which rights are missing in a user namespace', () => {
    const script = `import { createSharedValue } from ${JSON.stringify(BPF)}
      try { createSharedValue('natloom_test', 4096) } catch ({ code, message }) { console.log(code, message) }`
    const args = ['--user', '--map-root-user', '--net', process.execPath, '--input-type=module', '--eval', script]
    const said = execFileSync('unshare', args, { encoding: 'utf8' })
    expect(said).toMatch(/^OFFLOAD_RIGHTS .*EPERM.*CAP_BPF and CAP_NET_ADMIN/)
  })
})
