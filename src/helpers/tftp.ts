// TFTP (RFC 1350; options RFC 2347): a client asks at port 69, and the server answers from a port of its choice, to the
// one that was asked from (nf_conntrack_tftp.c). Nothing is rewritten: that port is translated already.

import { type Helper, Verdict } from './helper.ts'

/** Opcode 1 (read) or 2 (write), file, mode, then pairs of option and value; each ends with a zero byte. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are bytes of TFTP
const REQUEST = /^\x00[\x01\x02][^\x00]+\x00(?:netascii|octet|mail)\x00(?:[^\x00]+\x00[^\x00]*\x00)*$/i
/** RFC 2347. */
const LONGEST_REQUEST = 512

export const tftp = (): Helper => ({
  name: 'tftp',
  tuple: { proto: 'udp', dstPort: 69 },
  maxExpected: 1,
  expectTimeoutSeconds: 300,

  help(ctx) {
    if (ctx.direction === 'original' && ctx.text.length <= LONGEST_REQUEST && REQUEST.test(ctx.text))
      ctx.expect({ port: ctx.tuple.src.port })
    return Verdict.Accept
  },
})
