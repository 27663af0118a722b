// Capture files, read from front to back and written: pcap (draft-ietf-opsawg-pcap: either byte order, micro- or
// nanoseconds) here, pcapng in pcap-ng.ts. Where the packet lies in a frame, pcap-link.ts tells.
//
// Damage is an error that names the place where it was found; the frames before it have been read by then.
// Owner: the code that opened a file closes it.

import { closeSync, openSync, writeSync } from 'node:fs'
import { type Capture, FileBytes, MOST_BYTES, reasonOf } from './capture.ts'
import { PcapError } from './errors.ts'
import { LINK_ETHERNET } from './pcap-link.ts'
import { readPcapng, SECTION_HEADER } from './pcap-ng.ts'

const MICROSECONDS = 0xa1b2c3d4
const NANOSECONDS = 0xa1b23c4d
const FILE_HEADER = 24
const RECORD_HEADER = 16
/** The bits above are about a frame check sequence. */
const LINK_MASK = 0xffff

/** Files that are taken for captures: what they begin with, by which mask, and what to do with them. */
const OTHERS = [
  [0x1f8b0000, 0xffff0000, 'is compressed by gzip: gunzip it first'],
  [0x28b52ffd, 0xffffffff, 'is compressed by zstd: unzstd it first'],
  [0xfd377a58, 0xffffffff, 'is compressed by xz: unxz it first'],
  [0x736e6f6f, 0xffffffff, 'is a snoop capture: convert it, as by `editcap -F pcap`'],
  [0x0a0d0a0d, 0xffffffff, 'looks like a pcapng capture whose line ends a text transfer has changed: transfer it anew'],
  [0xa1b2cd34, 0xffffffff, 'is a pcap capture of a modified kind: convert it, as by `editcap -F pcap`'],
  [0x34cdb2a1, 0xffffffff, 'is a pcap capture of a modified kind: convert it, as by `editcap -F pcap`'],
] as const

/** Opens a capture. Throws PcapError if the file is none. */
export function openCapture(path: string): Capture {
  const file = new FileBytes(path)
  try {
    return begin(file)
  } catch (error) {
    file.close()
    throw error
  }
}

function begin(file: FileBytes): Capture {
  const magic = file.peek(4)
  if (magic.length === 0)
    throw new PcapError('PCAP_EMPTY', `${file.path} is empty: it has not even the header that every capture has`)
  if (magic.length < 4) throw file.truncated('its first word', 4, magic.length)
  if (magic.readUInt32BE() === SECTION_HEADER) return readPcapng(file)
  for (const isLittle of [true, false]) {
    const word = isLittle ? magic.readUInt32LE() : magic.readUInt32BE()
    if (word === MICROSECONDS || word === NANOSECONDS) return readPcap(file, isLittle, word === NANOSECONDS)
  }
  const word = magic.readUInt32BE()
  const known = OTHERS.find(([begins, mask]) => ((word ^ begins) & mask) === 0)
  const what = known?.[2] ?? `is no capture: it begins with ${magic.toString('hex')}. pcap and pcapng are read`
  throw new PcapError('PCAP_FOREIGN', `${file.path} ${what}`)
}

function readPcap(file: FileBytes, isLittle: boolean, isNano: boolean): Capture {
  const header = file.peek(FILE_HEADER)
  if (header.length < FILE_HEADER) throw file.truncated('its header', FILE_HEADER, header.length)
  const u32 = (from: Buffer, at: number): number => (isLittle ? from.readUInt32LE(at) : from.readUInt32BE(at))
  const link = u32(header, 20) & LINK_MASK
  file.take(FILE_HEADER)
  let number = 0
  return {
    format: 'pcap',
    hasNanoseconds: isNano,
    close: () => file.close(),
    next() {
      const record = file.peek(RECORD_HEADER)
      if (record.length === 0) return undefined
      number++
      if (record.length < RECORD_HEADER) throw file.truncated(`frame ${number}`, RECORD_HEADER, record.length)
      const seconds = u32(record, 0)
      const fraction = u32(record, 4)
      const length = u32(record, 8)
      const originalLength = u32(record, 12)
      if (length > MOST_BYTES)
        throw new PcapError(
          'PCAP_DAMAGED',
          `${file.path} is damaged at byte ${file.offset}: frame ${number} would have ${length} bytes. ` +
            'What comes before it is sound; repair the file or cut it there',
        )
      file.take(RECORD_HEADER)
      const bytes = file.peek(length)
      if (bytes.length < length) throw file.truncated(`frame ${number}`, length, bytes.length)
      file.take(length)
      return { number, seconds, nanoseconds: isNano ? fraction : fraction * 1000, link, bytes, originalLength }
    },
  }
}

/** tcpdump's own. */
const SNAPLEN = 262144
/** So many bytes are written at once. */
const WRITE_AT = 1 << 18

/** Writes a pcap file of Ethernet frames, in this machine's order: little-endian. Throws PcapError. */
export class CaptureWriter {
  readonly #path: string
  readonly #isNano: boolean
  readonly #file: number
  #pending: Buffer[] = []
  #bytes = 0

  constructor(path: string, { nanoseconds = false }: { nanoseconds?: boolean } = {}) {
    this.#path = path
    this.#isNano = nanoseconds
    this.#file = this.#attempt(() => openSync(path, 'w'))
    const header = Buffer.alloc(FILE_HEADER)
    header.writeUInt32LE(nanoseconds ? NANOSECONDS : MICROSECONDS, 0)
    header.writeUInt16LE(2, 4)
    header.writeUInt16LE(4, 6)
    header.writeUInt32LE(SNAPLEN, 16)
    header.writeUInt32LE(LINK_ETHERNET, 20)
    this.#put(header)
  }

  write(seconds: number, nanoseconds: number, frame: Uint8Array): void {
    const record = Buffer.alloc(RECORD_HEADER + frame.length)
    record.writeUInt32LE(seconds, 0)
    record.writeUInt32LE(this.#isNano ? nanoseconds : Math.floor(nanoseconds / 1000), 4)
    record.writeUInt32LE(frame.length, 8)
    record.writeUInt32LE(frame.length, 12)
    record.set(frame, RECORD_HEADER)
    this.#put(record)
  }

  close(): void {
    this.#flush()
    closeSync(this.#file)
  }

  #put(bytes: Buffer): void {
    this.#pending.push(bytes)
    this.#bytes += bytes.length
    if (this.#bytes >= WRITE_AT) this.#flush()
  }

  #flush(): void {
    const all = Buffer.concat(this.#pending)
    this.#pending = []
    this.#bytes = 0
    for (let done = 0; done < all.length; ) done += this.#attempt(() => writeSync(this.#file, all, done))
  }

  #attempt<T>(work: () => T): T {
    try {
      return work()
    } catch (error) {
      throw new PcapError('PCAP_UNWRITABLE', `${this.#path} can't be written: ${reasonOf(error)}`, { cause: error })
    }
  }
}
