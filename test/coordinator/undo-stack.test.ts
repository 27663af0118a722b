import { describe, expect, it } from 'vitest'
import { UndoStack } from '../../src/coordinator/undo-stack.ts'

describe('taking back', () => {
  it('undoes the newest first, and waits for each', async () => {
    const undone: string[] = []
    const takeBack = new UndoStack()
    takeBack.add('first', () => undone.push('first'))
    takeBack.add('second', async () => {
      await new Promise(setImmediate)
      undone.push('second')
    })
    takeBack.add('third', () => undone.push('third'))
    expect(await takeBack.run()).toEqual([])
    expect(undone).toEqual(['third', 'second', 'first'])
  })

  it('goes on after a step that fails, and tells which', async () => {
    const undone: string[] = []
    const refused = new Error('refused')
    const takeBack = new UndoStack()
    takeBack.add('first', () => undone.push('first'))
    takeBack.add('second', () => {
      throw refused
    })
    takeBack.add('third', () => Promise.reject(refused))
    expect(await takeBack.run()).toEqual([
      { what: 'third', error: refused },
      { what: 'second', error: refused },
    ])
    expect(undone).toEqual(['first'])
  })

  it('undoes nothing twice', async () => {
    let times = 0
    const takeBack = new UndoStack()
    takeBack.add('once', () => times++)
    await takeBack.run()
    await takeBack.run()
    expect(times).toBe(1)
  })
})
