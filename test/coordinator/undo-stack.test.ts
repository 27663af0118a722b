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
      { what: 'third', error: refused },
      { what: 'second', error: refused },
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
})
