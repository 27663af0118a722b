import { afterAll, describe, expect, it } from 'vitest'
import { Processes } from '../../../src/lab/world/processes.ts'
import { testNamespace } from '../../leftovers.ts'
import { PATIENCE_MS } from '../../patience.ts'

const host = testNamespace('processes')
afterAll(() => host.delete())

describe('a program in a namespace', () => {
  it('gives its output when it ends with 0', async () => {
    const program = new Processes().start(host, 'sh', ['-c', 'echo one; echo two'])
    expect(await program.text(PATIENCE_MS)).toBe('one\ntwo\n')
  })

  it('that ends otherwise is an error that shows what it said', async () => {
    const program = new Processes().start(host, 'sh', ['-c', 'echo why >&2; exit 7'])
    await expect(program.text(PATIENCE_MS)).rejects.toThrow('sh ended with 7:\nwhy\n')
  })

  it('is killed when its time is over, and that is an error', async () => {
    const program = new Processes().start(host, 'sleep', ['600'])
    await expect(program.within(50)).rejects.toThrow('sleep did not end within 0.05 s')
    expect((await program.ended).signal).toBe('SIGKILL')
  })

  it('that can not be started is an error too', async () => {
    const program = new Processes().start(host, '/no/such/program', [])
    await expect(program.text(PATIENCE_MS)).rejects.toThrow('/no/such/program')
  })

  it('ends with the others, and none starts afterwards', async () => {
    const processes = new Processes()
    const programs = [processes.start(host, 'sleep', ['600']), processes.start(host, 'sleep', ['600'])]
    await processes.end()
    for (const program of programs) expect(await program.ended).toEqual({ code: null, signal: 'SIGTERM' })
    expect(() => processes.start(host, 'true', [])).toThrow('true is not started')
  })
})
