import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { attributes, bytesOf, errorOf, message, messages, NLMSG_ERROR } from '../../src/host/netlink.ts'

describe('netlink messages', () => {
  const attribute = fc.tuple(fc.integer({ min: 0, max: 0x3fff }), fc.uint8Array({ maxLength: 40 }))
  const fields = fc.record({
    type: fc.integer({ min: 0, max: 0xffff }),
    flags: fc.integer({ min: 0, max: 0xffff }),
    sequence: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    fixed: fc
      .integer({ min: 0, max: 4 })
      .chain((words) => fc.uint8Array({ minLength: words * 4, maxLength: words * 4 })),
    list: fc.uniqueArray(attribute, { selector: ([type]) => type, maxLength: 6 }),
  })
  const encoded = ({ type, flags, sequence, fixed, list }: typeof fields extends fc.Arbitrary<infer F> ? F : never) =>
    message(type, flags, sequence, fixed, list)

  it('are read as they were written, several in one datagram', () => {
    fc.assert(
      fc.property(fc.array(fields, { maxLength: 4 }), (all) => {
        const read = [...messages(Buffer.concat(all.map(encoded)))]
        expect(read.map(({ type, flags, sequence }) => [type, flags, sequence])).toEqual(
          all.map(({ type, flags, sequence }) => [type, flags, sequence]),
        )
        for (const [index, { fixed, list }] of all.entries()) {
          const found = attributes(read[index].body, fixed.length)
          expect(new Map([...found].map(([type, value]) => [type, bytesOf(value)]))).toEqual(new Map(list))
        }
      }),
    )
  })

  it('are read within their bytes, whatever these say', () => {
    const garbage = fc.tuple(fields, fc.nat(), fc.uint8Array({ maxLength: 12 }), fc.nat())
    fc.assert(
      fc.property(garbage, ([one, cut, noise, at]) => {
        const bytes = encoded(one)
        bytes.set(
          noise.subarray(0, bytes.length),
          Math.min(at % bytes.length, Math.max(0, bytes.length - noise.length)),
        )
        for (const { body } of messages(bytes.subarray(0, cut % (bytes.length + 1)))) attributes(body, one.fixed.length)
      }),
    )
  })

  it('tell an error by its number and in the kernel’s words', () => {
    const body = Uint8Array.from([0xea, 0xff, 0xff, 0xff, ...new Array<number>(16).fill(0)])
    const [plain] = messages(message(NLMSG_ERROR, 0, 1, body, []))
    expect(errorOf(plain)).toEqual({ errno: 22, text: '' })
    const [explained] = messages(message(NLMSG_ERROR, 0x200, 1, body, [[1, Buffer.from('Invalid prefix\0')]]))
    expect(errorOf(explained)).toEqual({ errno: 22, text: 'Invalid prefix' })
  })
})
