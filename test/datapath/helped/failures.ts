// Helpers that fail in the ways that a test asks for, and what is read of a dialogue that they were to follow.

import { HELPER_RESETS } from '../../../src/counters/counters.ts'
import type { OnHelperFailure } from '../../../src/helpers/declaration.ts'
import { type Helper, Verdict } from '../../../src/helpers/helper.ts'
import * as tables from '../tables.ts'
import { Dialogue, type DialogueOptions, type Segment, segmentOf } from './dialogue.ts'

export const RESET_REASONS: readonly string[] = HELPER_RESETS

/** 10.0.0.5, as protocols of binary frames write it. */
export const RAW = '\x0a\x00\x00\x05'

export const start = (
  helper: Helper,
  options: DialogueOptions = {},
  onFailure: OnHelperFailure = 'reset',
): Promise<Dialogue> => Dialogue.begin(options, (gateway) => gateway.help(helper, undefined, onFailure))

/** Reads, and throws as soon as it reads this. */
export const failing = (text: string, proto: 'tcp' | 'udp' = 'tcp'): Helper => ({
  name: 'failing',
  tuple: { proto, dstPort: proto === 'tcp' ? 21 : 69 },
  help(ctx) {
    if (ctx.text.includes(text)) throw new Error('as the test wants it')
    return Verdict.Accept
  },
})

export interface FramedOptions {
  readonly refuses?: boolean
  readonly nonsense?: boolean
  readonly grows?: boolean
  readonly proto?: 'tcp' | 'udp'
}

/**
 * A protocol of binary frames: a byte of length, then as many bytes, of which the first four are the sender's address.
 * Each is rewritten; what is not complete is held, and nothing else.
 */
export const framed = ({ refuses, nonsense, grows, proto = 'tcp' }: FramedOptions): Helper => ({
  name: 'framed',
  tuple: { proto, dstPort: proto === 'tcp' ? 21 : 69 },
  help(ctx) {
    let at = 0
    while (at < ctx.text.length) {
      const end = at + 1 + (ctx.text.charCodeAt(at) === 0xff ? 1 << 20 : ctx.text.charCodeAt(at))
      if (end > ctx.text.length) {
        ctx.hold(at)
        break
      }
      if (refuses) ctx.expect({ port: 0 })
      else if (nonsense) ctx.mangle(at + 1, 0.5, 'x')
      else ctx.mangle(at + 1, 4, grows ? 'x'.repeat(65535) : bytesOf(ctx.translated.src.address))
      at = end
    }
    return Verdict.Accept
  },
})

const bytesOf = (address: string): string => String.fromCharCode(...address.split('.').map(Number))

/** What has left meanwhile. */
export const toServer = (d: Dialogue): Segment[] => d.gateway.toWan().map(segmentOf)
export const toClient = (d: Dialogue): Segment[] => d.gateway.toLan().map(segmentOf)

export const connectionsOf = (d: Dialogue): tables.Connection[] => tables.connectionsOf(d.gateway.tables)
