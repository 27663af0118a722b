// Cutting shared memory: the same code over the same buffer finds the same views, each on a cache line of its own.

import { describe, expect, it } from 'vitest'
import { columns, layout } from '../../src/memory/layout.ts'
import { allocate, bytesOf, Region, sharedMemory } from '../../src/memory/region.ts'

const LINE = 64

describe('shared memory', () => {
  it('is shared, zeroed, and whole pages', () => {
    const buffer = sharedMemory(1)
    expect(buffer).toBeInstanceOf(SharedArrayBuffer)
    expect(buffer.byteLength).toBe(65536)
    expect(sharedMemory(65537).byteLength).toBe(2 * 65536)
    expect(new Uint8Array(buffer).every((byte) => byte === 0)).toBe(true)
  })
})

describe('a region', () => {
  const cut = (region: Region) => ({
    bytes: region.u8(1),
    words: region.i32(17),
    floats: region.f64(2),
    part: region.sub(100).i32(3),
  })

  it('begins every view on a cache line', () => {
    const { view } = allocate(cut)
    for (const cut of Object.values(view)) expect(cut.byteOffset % LINE).toBe(0)
    expect([view.bytes.byteOffset, view.words.byteOffset, view.floats.byteOffset]).toEqual([0, 64, 192])
    expect(view.part.byteOffset).toBe(256)
  })

  it('is measured without a buffer, and needs what was measured', () => {
    expect(bytesOf(cut)).toBe(384)
    const views = cut(new Region())
    expect(Object.values(views).every(({ length }) => length === 0)).toBe(true)
  })

  it('is found again over the same buffer', () => {
    const { buffer, view } = allocate(cut)
    view.words[16] = 7
    view.part[2] = 9
    const again = cut(new Region(buffer))
    expect([again.words[16], again.part[2]]).toEqual([7, 9])
  })

  it('refuses more than the buffer holds', () => {
    const region = new Region(sharedMemory(65536))
    region.u8(65536 - LINE)
    region.u8(LINE)
    expect(() => region.u8(1)).toThrow('region of 65536 bytes is too small: 65600 wanted')
  })
})

describe('a layout', () => {
  it('names the words of a row', () => {
    expect(layout(4, { first: 0, last: 3 })).toEqual({ first: 0, last: 3 })
  })

  it('refuses a word twice, and words outside the row', () => {
    expect(() => layout(4, { one: 1, other: 1 })).toThrow('word 1 of other is taken or outside the row')
    expect(() => layout(4, { far: 4 })).toThrow('word 4 of far')
    expect(() => layout(4, { negative: -1 })).toThrow('word -1 of negative')
  })
})

describe('columns', () => {
  it('are one typed array each, with a place for row 0', () => {
    const { view } = allocate((region) => columns(region, 11, { mark: 'i32', helper: 'u8' }))
    expect(view.mark).toBeInstanceOf(Int32Array)
    expect(view.helper).toBeInstanceOf(Uint8Array)
    expect([view.mark.length, view.helper.length]).toEqual([11, 11])
  })
})
