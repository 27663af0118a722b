import { beforeEach, describe, expect, it } from 'vitest'
import { KernelDispatch } from '../../../src/coordinator/interfaces/kernel-dispatch.ts'
import { Story } from '../story.ts'

let story: Story
/** The version of the leases. */
let version: number
/** When programs were compiled, and from which version of the leases; refusals too. */
let replaced: string[]
let isRefused: boolean
let dispatch: KernelDispatch

beforeEach(() => {
  story = new Story()
  version = 1
  replaced = []
  isRefused = false
  dispatch = new KernelDispatch(
    {
      version: () => version,
      replace() {
        if (isRefused) throw new Error('no memory')
        replaced.push(`${story.now()}: ${version}`)
      },
      failed: (error) => replaced.push(String(error)),
    },
    story,
  )
})

function change(): void {
  version++
  dispatch.follow()
}

describe('the programs by which the kernel dispatches', () => {
  it('are replaced when leases have changed, and only then', () => {
    dispatch.follow()
    story.goOn(1000)
    dispatch.follow()
    story.goOn(1000)
    change()
    expect(replaced).toEqual(['0: 1', '2000: 2'])
  })

  it('are replaced ten times a second at most, and the last ones know all leases', () => {
    for (let i = 0; i < 250; i++) {
      change()
      story.goOn(1)
    }
    story.goOn(1000)
    // The clock stands at 1250 when what was due at 300 is done.
    expect(replaced).toEqual(['0: 2', '100: 101', '200: 201', '1250: 251'])
  })

  it('are tried again after a refusal, though leases have not changed since', () => {
    isRefused = true
    change()
    isRefused = false
    story.goOn(10_000)
    dispatch.follow()
    expect(replaced).toEqual(['Error: no memory', '10000: 2'])
  })

  it('are left alone after the end', () => {
    change()
    change()
    dispatch.stop()
    story.goOn(1000)
    expect(replaced).toEqual(['0: 2'])
  })
})
