import { beforeEach, describe, expect, it } from 'vitest'
import { Throttle } from '../../../src/coordinator/interfaces/throttle.ts'
import { Story } from '../story.ts'

let story: Story
let done: number[]
let throttle: Throttle

beforeEach(() => {
  story = new Story()
  done = []
  throttle = new Throttle(100, () => done.push(story.now()), story)
})

describe('what is done once in 100 ms at most', () => {
  it('is done at once if it was not done lately', () => {
    story.goOn(5000)
    throttle.ask()
    expect(done).toEqual([5000])
  })

  it('is done once more at the end of the time, however often it was asked for', () => {
    throttle.ask()
    for (let i = 0; i < 9; i++) {
      story.goOn(10)
      throttle.ask()
    }
    expect(done).toEqual([0])
    story.goOn(10)
    expect(done).toEqual([0, 100])
    story.goOn(1000)
    expect(done).toEqual([0, 100])
  })

  it('is done ten times a second if it is asked for all the time', () => {
    for (let i = 0; i < 1000; i++) {
      throttle.ask()
      story.goOn(1)
    }
    expect(done).toEqual([0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000])
  })

  it('is not done any more after the end', () => {
    throttle.ask()
    throttle.ask()
    throttle.stop()
    story.goOn(1000)
    expect(done).toEqual([0])
  })
})
