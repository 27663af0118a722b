// Replays captures that tests have written, and returns the events and the frames that were sent to either side.

import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { openCapture } from '../../src/io/pcap-file.ts'
import { type ReplayOptions, replay } from '../../src/replay/replay.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { segmentOf } from '../datapath/helped/dialogue.ts'
import { testFolder } from '../leftovers.ts'
import { CLIENT, SERVER } from './story.ts'

export const folder = testFolder('replay')
afterAll(() => rmSync(folder, { recursive: true }))

export const OUTSIDE = '203.0.113.1'
let files = 0

/** The properties of an event's line. */
export interface Event {
  readonly event: string
  readonly frame: number
  readonly shard?: number
  readonly src?: string
  readonly sport?: number
  readonly dport?: number
  readonly reply?: unknown
  readonly master?: unknown
  readonly cause?: string
}

/** Replays a capture: returns its events and the frames that were sent to either side. */
export async function played(capture: Buffer, more: Partial<ReplayOptions> = {}) {
  const base = join(folder, String(++files))
  writeFileSync(`${base}.pcap`, capture)
  const events: Event[] = []
  const summary = await replay({
    file: `${base}.pcap`,
    outsideAddress: parseAddress(OUTSIDE),
    translate: true,
    helpers: [{ module: 'ftp', ports: [] }],
    filter: [],
    workers: 1,
    completeChecksums: true,
    packetEvents: false,
    outInside: `${base}-inside.pcap`,
    outOutside: `${base}-outside.pcap`,
    event: (line) => events.push(JSON.parse(line)),
    ...more,
  })
  const [insideFile, outsideFile] = [`${base}-inside.pcap`, `${base}-outside.pcap`]
  return { summary, events, inside: framesOf(insideFile), outside: framesOf(outsideFile), outsideFile }
}

function framesOf(file: string): Uint8Array[] {
  const capture = openCapture(file)
  const frames: Uint8Array[] = []
  for (let each = capture.next(); each; each = capture.next()) frames.push(Uint8Array.from(each.bytes))
  capture.close()
  return frames
}

export const textOf = (frames: readonly Uint8Array[]): string => frames.map((bytes) => segmentOf(bytes).text).join('')
export const named = (events: readonly Event[], name: string): Event[] => events.filter(({ event }) => event === name)

export const MASTER = { src: CLIENT.address, sport: CLIENT.port, dst: SERVER.address, dport: 21 }
