// Builds the bytes of capture files from descriptions. Authority: draft-ietf-opsawg-pcap and -pcapng.

export interface Written {
  readonly seconds: number
  /** In ticks of the file's or the interface's clock. */
  readonly fraction: number
  readonly bytes: Uint8Array
  readonly originalLength?: number
}

interface Order {
  readonly little?: boolean
}

/** Writes numbers of two or four bytes in one byte order. */
function writer(little: boolean) {
  return {
    u16: (...values: number[]): Buffer => {
      const out = Buffer.alloc(values.length * 2)
      for (const [i, value] of values.entries())
        little ? out.writeUInt16LE(value, i * 2) : out.writeUInt16BE(value, i * 2)
      return out
    },
    u32: (...values: number[]): Buffer => {
      const out = Buffer.alloc(values.length * 4)
      for (const [i, value] of values.entries())
        little ? out.writeUInt32LE(value >>> 0, i * 4) : out.writeUInt32BE(value >>> 0, i * 4)
      return out
    },
  }
}

export function pcap(
  frames: readonly Written[],
  { link = 1, little = true, nano = false }: Order & { link?: number; nano?: boolean } = {},
): Buffer {
  const { u16, u32 } = writer(little)
  const header = [u32(nano ? 0xa1b23c4d : 0xa1b2c3d4), u16(2, 4), u32(0, 0, 262144, link)]
  const records = frames.map(({ seconds, fraction, bytes, originalLength = bytes.length }) =>
    Buffer.concat([u32(seconds, fraction, bytes.length, originalLength), bytes]),
  )
  return Buffer.concat([...header, ...records])
}

const padded = (bytes: Uint8Array): Buffer => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)])

/** Blocks of a pcapng section, for a test to put together. */
export function pcapng({ little = true }: Order = {}) {
  const { u16, u32 } = writer(little)
  const block = (type: number, ...parts: Uint8Array[]): Buffer => {
    const body = padded(Buffer.concat(parts))
    return Buffer.concat([u32(type, body.length + 12), body, u32(body.length + 12)])
  }
  const option = (code: number, value: Uint8Array): Buffer => Buffer.concat([u16(code, value.length), padded(value)])
  const time = (ticks: bigint): Buffer => u32(Number(ticks >> 32n), Number(ticks & 0xffffffffn))
  return {
    block,
    section: (): Buffer => block(0x0a0d0d0a, u32(0x1a2b3c4d), u16(1, 0), u32(0xffffffff, 0xffffffff)),
    interface: (link: number, { resolution, snaplen = 0 }: { resolution?: number; snaplen?: number } = {}): Buffer =>
      block(
        1,
        u16(link, 0),
        u32(snaplen),
        option(2, Buffer.from('eth0')),
        resolution === undefined ? Buffer.alloc(0) : option(9, Buffer.of(resolution)),
        u16(0, 0),
      ),
    enhanced: (index: number, ticks: bigint, bytes: Uint8Array): Buffer =>
      block(6, u32(index), time(ticks), u32(bytes.length, bytes.length), padded(bytes)),
    obsolete: (index: number, ticks: bigint, bytes: Uint8Array): Buffer =>
      block(2, u16(index, 0), time(ticks), u32(bytes.length, bytes.length), padded(bytes)),
    simple: (bytes: Uint8Array, originalLength = bytes.length): Buffer => block(3, u32(originalLength), padded(bytes)),
  }
}
