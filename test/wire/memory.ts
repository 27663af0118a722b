// Memory that ends where the packet ends: any read or write past it throws.

/** A copy of the bytes as the last ones of a view, with `before` bytes in front of them. */
export function atEnd(bytes: Uint8Array, before = 0): { mem: DataView; at: number; end: number } {
  const buffer = new Uint8Array(before + bytes.length)
  buffer.set(bytes, before)
  return { mem: new DataView(buffer.buffer), at: before, end: buffer.length }
}

/** The view in which a frame from the builder lies, its virtio-net header included. */
export const viewOf = (frame: Uint8Array): { mem: DataView; at: number; ipAt: number; end: number } => ({
  mem: new DataView(frame.buffer),
  at: frame.byteOffset,
  ipAt: frame.byteOffset + 14,
  end: frame.byteOffset + frame.length,
})
