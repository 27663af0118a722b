import { describe, expect, it } from 'vitest'
import { UndoStack } from '../../src/coordinator/undo-stack.ts'

describe('the undo stack', () => {
  it('undoes the newest first, and waits for each', async () => {
    const undone: string[] = []
    const undo = new UndoStack()
    undo.push('first', () => undone.push('first'))
    undo.push('second', async () => {
      await new Promise(setImmediate)
      undone.push('second')
    })
    undo.push('third', () => undone.push('third'))
    expect(await undo.unwind()).toEqual([])
    expect(undone).toEqual(['third', 'second', 'first'])
  })

  it('goes on after a step that fails, and tells which', async () => {
    const undone: string[] = []
    const refused = new Error('refused')
    const undo = new UndoStack()
    undo.push('first', () => undone.push('first'))
    undo.push('second', () => {
      throw refused
    })
    undo.push('third', () => Promise.reject(refused))
    expect(await undo.unwind()).toEqual([
      { what: 'third', error: refused, late: false },
      { what: 'second', error: refused, late: false },
    ])
    expect(undone).toEqual(['first'])
  })

  it('undoes nothing twice', async () => {
    let times = 0
    const undo = new UndoStack()
    undo.push('once', () => times++)
    await undo.unwind()
    await undo.unwind()
    expect(times).toBe(1)
  })

  describe('with a step that never ends', () => {
    const never = () => new Promise<void>(() => {})

    it('goes on after its deadline, and tells that it was late', async () => {
      const undone: string[] = []
      const undo = new UndoStack()
      undo.push('rules', () => undone.push('rules'))
      undo.push('a thread', never, { withinMs: 1 })
      expect(await undo.unwind()).toEqual([
        { what: 'a thread', error: new Error('not done within 0.001 s, going on without it'), late: true },
      ])
      expect(undone).toEqual(['rules'])
    })

    it('frees nothing that a thread may still use, and nothing else is passed over', async () => {
      const undone: string[] = []
      const undo = new UndoStack()
      undo.push('rules', () => undone.push('rules'))
      undo.push('sockets', () => undone.push('sockets'), { frees: true })
      undo.push('a thread', never, { withinMs: 1 })
      undo.push('scratch', () => undone.push('scratch'), { frees: true })
      expect(await undo.unwind()).toMatchObject([{ what: 'a thread', late: true }])
      expect(undone).toEqual(['scratch', 'rules'])
    })

    it('frees all the same if a step failed in time', async () => {
      const undone: string[] = []
      const undo = new UndoStack()
      undo.push('sockets', () => undone.push('sockets'), { frees: true })
      undo.push('a thread', () => Promise.reject(new Error('refused')))
      await undo.unwind()
      expect(undone).toEqual(['sockets'])
    })
  })
})
