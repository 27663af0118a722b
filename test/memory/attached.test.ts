import { describe, expect, it } from 'vitest'
import { attach, attached } from '../../src/memory/attached.ts'
import { Region } from '../../src/memory/region.ts'

describe('the memory of a thread', () => {
  it('must be attached before anything is imported that works on it', () => {
    expect(() => attached()).toThrow('no memory is attached: import datapath/attach.ts')
    const region = new Region()
    const memory = {
      packetMemory: new ArrayBuffer(0),
      counters: region,
      connections: region,
      mappings: region,
      permissions: region,
      sequences: region,
      gone: region,
      events: region,
      capacity: 1,
      mappingCapacity: 1,
    }
    attach(memory)
    expect(attached()).toBe(memory)
  })
})
