// Which packets the offload's program sends, said a second time and otherwise than the program does: the table of
// src/offload/README.md in code. And what a slot knows of TCP's numbers after a packet.

const IP = 14
const TRANSPORT = 34

/** What a slot has of TCP. */
export interface Numbers {
  readonly end: number
  readonly ack: number
  readonly window: number
  readonly maxWindow: number
  readonly flags: number
}

const viewOf = (frame: Uint8Array): DataView => new DataView(frame.buffer, frame.byteOffset, frame.length)

/** Whether a frame, to this host and of a known flow, is plain; for a hop with this mtu. */
export function isPlain(frame: Uint8Array, gsoSize: number, mtu: number): boolean {
  const view = viewOf(frame)
  const total = view.getUint16(IP + 2)
  const carried = frame.length - IP
  if (view.getUint16(12) !== 0x0800 || view.getUint8(IP) !== 0x45) return false
  if ((view.getUint16(IP + 6) & 0x3fff) !== 0 || view.getUint8(IP + 8) < 2) return false
  if (total > carried || (total < carried && frame.length > 60)) return false
  if (!isHeaderSumRight(view)) return false
  const header = view.getUint8(IP + 9) === 6 ? tcpHeader(frame, total) : udpHeader(view, total)
  if (header === 0) return false
  const onLink = gsoSize === 0 ? total : Math.min(total, 20 + header + gsoSize)
  return onLink <= mtu
}

function isHeaderSumRight(view: DataView): boolean {
  let sum = 0
  for (let at = IP; at < TRANSPORT; at += 2) sum += view.getUint16(at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return sum === 0xffff
}

function udpHeader(view: DataView, total: number): number {
  const length = view.getUint16(TRANSPORT + 4)
  return length >= 8 && length <= total - 20 ? 8 : 0
}

/** The header's length, 0 if it isn't plain. */
function tcpHeader(frame: Uint8Array, total: number): number {
  if (frame.length < TRANSPORT + 20) return 0
  const flags = frame[TRANSPORT + 13]!
  const isAck = (flags & 0x10) !== 0 && (flags & 0x07) === 0
  const length = (frame[TRANSPORT + 12]! >> 4) * 4
  if (!isAck || length < 20 || length > total - 20) return 0
  const options = [...frame.subarray(TRANSPORT + 20, TRANSPORT + length)]
  const starts = (...bytes: number[]): boolean => bytes.every((byte, i) => options[i] === byte)
  if (starts(1, 1, 8, 10)) {
    if (options.length < 12) return 0
    options.splice(0, 12)
  }
  if (options.length === 0) return length
  const blocks = (options.length - 4) / 8
  return blocks >= 1 && starts(1, 1, 5, 2 + 8 * blocks) ? length : 0
}

/** After a packet that the program has sent. */
export function numbersOf(frame: Uint8Array, before: Numbers): Numbers {
  const view = viewOf(frame)
  if (view.getUint8(IP + 9) !== 6) return before
  const header = (view.getUint8(TRANSPORT + 12) >> 4) * 4
  const end = (view.getUint32(TRANSPORT + 4) + view.getUint16(IP + 2) - 20 - header) | 0
  const ack = view.getInt32(TRANSPORT + 8)
  const window = view.getUint16(TRANSPORT + 14)
  const isOld = ((ack - before.ack) | 0) < 0
  return {
    end: ((end - before.end) | 0) > 0 ? end : before.end,
    ack: isOld ? before.ack : ack,
    window: isOld ? before.window : window,
    maxWindow: Math.max(before.maxWindow, window),
    flags: before.flags | view.getUint8(TRANSPORT + 13),
  }
}
