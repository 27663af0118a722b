import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { attachHashKey, hash4 } from '../../src/memory/siphash.ts'

/** HalfSipHash over any bytes, as the paper describes it, to hold the unrolled one against. */
function halfSipHash(compressions: number, finalizations: number, bytes: Uint8Array, k0: number, k1: number): number {
  const v = Uint32Array.of(k0, k1, k0 ^ 0x6c796765, k1 ^ 0x74656462)
  const rotate = (i: number, by: number): void => {
    v[i] = (v[i]! << by) | (v[i]! >>> (32 - by))
  }
  const mix = (i: number, j: number, by: number): void => {
    v[i]! += v[j]!
    rotate(j, by)
    v[j]! ^= v[i]!
  }
  const rounds = (count: number): void => {
    for (let i = 0; i < count; i++) {
      mix(0, 1, 5)
      rotate(0, 16)
      mix(2, 3, 8)
      mix(0, 3, 7)
      mix(2, 1, 13)
      rotate(2, 16)
    }
  }
  const padded = new DataView(new ArrayBuffer((bytes.length & ~3) + 4))
  bytes.forEach((byte, i) => {
    padded.setUint8(i, byte)
  })
  padded.setUint8(padded.byteLength - 1, bytes.length)
  for (let at = 0; at < padded.byteLength; at += 4) {
    const word = padded.getInt32(at, true)
    v[3]! ^= word
    rounds(compressions)
    v[0]! ^= word
  }
  v[2]! ^= 0xff
  rounds(finalizations)
  return (v[1]! ^ v[3]!) >>> 0
}

const KEY = [0x03020100, 0x07060504] as const
const counting = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i)

describe('the reference in this test gives the published vectors', () => {
  // HalfSipHash-2-4, 32 bits of output, from its authors; HalfSipHash-1-3 from Linux's self-test of hsiphash.
  const vectors = [
    [2, 4, 0, 0x5b9f35a9],
    [2, 4, 1, 0xb85a4727],
    [1, 3, 0, 0x5814c896],
    [1, 3, 1, 0xe7e864ca],
    [1, 3, 2, 0xbc4b0e30],
    [1, 3, 3, 0x01539939],
    [1, 3, 15, 0xd0257b04],
    [1, 3, 16, 0x8b31d501],
    [1, 3, 63, 0x87178304],
  ] as const
  for (const [c, d, length, expected] of vectors)
    it(`HalfSipHash-${c}-${d} of ${length} bytes`, () => {
      expect(halfSipHash(c, d, counting(length), ...KEY)).toBe(expected)
    })
})

describe('the hash of four words', () => {
  it("is HalfSipHash-1-3 of their sixteen bytes: Linux's vector", () => {
    attachHashKey(...KEY)
    expect(hash4(0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c) >>> 0).toBe(0x8b31d501)
  })

  // By a C program written from the paper.
  type Vector = readonly [words: [number, number, number, number], key: [number, number], hash: number]
  const vectors: readonly Vector[] = [
    [[0, 0, 0, 0], [0, 0], 0xd1d8b8bd],
    [[-1, -1, -1, -1], [-1, -1], 0x5c69fbed],
    [[0x0500000a, 0x04030201, 0x50008813, 6], [0xdeadbeef, 0x01234567], 0xcf995cc4],
    [[1, 0, 0, 0], [0, 0], 0x393f66dd],
    [[0, 0, 0, 1], [0, 0], 0x8139705b],
    [[0, 0, 0, 0], [1, 0], 0x8f4c09e5],
    [[0, 0, 0, 0], [0, 1], 0x1c41233a],
    [[0x80000000, 0x7fffffff, 0x12345678, 0x9abcdef0], [0x80000000, 0x7fffffff], 0xa803e898],
  ]
  for (const [words, key, expected] of vectors)
    it(`${words.map((word) => (word >>> 0).toString(16)).join(' ')} is ${expected.toString(16)}`, () => {
      attachHashKey(...key)
      expect(hash4(...words) >>> 0).toBe(expected)
    })

  it('is that of the general algorithm for any words and key, and a signed 32-bit number', () => {
    const word = fc.integer({ min: -0x80000000, max: 0x7fffffff })
    fc.assert(
      fc.property(fc.tuple(word, word, word, word), fc.tuple(word, word), ([a, b, c, d], [k0, k1]) => {
        attachHashKey(k0, k1)
        const hash = hash4(a, b, c, d)
        expect(hash).toBe(hash | 0)
        expect(hash >>> 0).toBe(halfSipHash(1, 3, new Uint8Array(Int32Array.of(a, b, c, d).buffer), k0, k1))
      }),
    )
  })

  it('depends on the key', () => {
    attachHashKey(1, 2)
    const one = hash4(1, 2, 3, 4)
    attachHashKey(1, 3)
    expect(hash4(1, 2, 3, 4)).not.toBe(one)
  })
})
