import { describe, expect, it } from 'vitest'
import { attach, seat } from '../../src/memory/attached.ts'
import { Region } from '../../src/memory/region.ts'

describe('the seat', () => {
  it('must be attached before anything is imported that works on it', () => {
    expect(() => seat()).toThrow('no memory is attached: import datapath/attach.ts')
    const region = new Region()
    const attached = {
      arena: new ArrayBuffer(0),
      counters: region,
      connections: region,
      mappings: region,
      permissions: region,
      sequences: region,
      events: region,
      capacity: 1,
    }
    attach(attached)
    expect(seat()).toBe(attached)
  })
})
