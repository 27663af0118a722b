// Netlink messages of any family, built and parsed: a header, the family's fixed part, attributes.
// Authority: RFC 3549 section 2.3, netlink(7), linux/netlink.h. Integers have the host's byte order (little-endian).
//
// Nothing here owns memory: what `messages` and `attributes` yield are views of the bytes given to them.

const HEADER = 16 // length u32, type u16, flags u16, sequence u32, port u32
const ATTRIBUTE_HEADER = 4 // length u16, type u16
const ATTRIBUTE_TYPE = 0x3fff // without the nested and byte-order bits
/** To be set in the type of an attribute that holds attributes. */
export const NLA_F_NESTED = 0x8000

export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3
export const NLM_F_REQUEST = 0x1
export const NLM_F_ACK = 0x4
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP = 0x300
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800
const NLM_F_ACK_TLVS = 0x200
const NLMSGERR_ATTR_MSG = 1

export interface Message {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  /** The netlink port of the socket whose request is answered or, of a notification, was carried out; 0: the kernel. */
  readonly port: number
  /** The bytes behind the header. */
  readonly body: DataView
}

export type Attribute = readonly [type: number, value: Uint8Array]

const aligned = (length: number): number => (length + 3) & ~3

/** A request: `fixed` is the family's own header, a multiple of four bytes. */
export function message(
  type: number,
  flags: number,
  sequence: number,
  fixed: Uint8Array,
  attributes: readonly Attribute[],
): Uint8Array {
  const packed = nested(attributes)
  const bytes = new Uint8Array(HEADER + fixed.length + packed.length)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, bytes.length, true)
  view.setUint16(4, type, true)
  view.setUint16(6, flags, true)
  view.setUint32(8, sequence, true)
  bytes.set(fixed, HEADER)
  bytes.set(packed, HEADER + fixed.length)
  return bytes
}

/** Attributes one after another: the end of a message, or the value of an attribute that holds attributes. */
export function nested(attributes: readonly Attribute[]): Uint8Array {
  const bytes = new Uint8Array(attributes.reduce((sum, [, { length }]) => sum + aligned(ATTRIBUTE_HEADER + length), 0))
  const view = new DataView(bytes.buffer)
  let at = 0
  for (const [attribute, value] of attributes) {
    view.setUint16(at, ATTRIBUTE_HEADER + value.length, true)
    view.setUint16(at + 2, attribute, true)
    bytes.set(value, at + ATTRIBUTE_HEADER)
    at += aligned(ATTRIBUTE_HEADER + value.length)
  }
  return bytes
}

/** The messages of one datagram; ends at the first one that does not lie within it. */
export function* messages(bytes: Uint8Array): Generator<Message> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let at = 0
  while (bytes.length - at >= HEADER) {
    const length = view.getUint32(at, true)
    if (length < HEADER || at + length > bytes.length) return
    yield {
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      port: view.getUint32(at + 12, true),
      body: new DataView(bytes.buffer, bytes.byteOffset + at + HEADER, length - HEADER),
    }
    at += aligned(length)
  }
}

/** The attributes from `at` on, by type; of two with one type the last. */
export function attributes(body: DataView, at: number): Map<number, DataView> {
  const found = new Map<number, DataView>()
  while (body.byteLength - at >= ATTRIBUTE_HEADER) {
    const length = body.getUint16(at, true)
    if (length < ATTRIBUTE_HEADER || at + length > body.byteLength) break
    const value = new DataView(body.buffer, body.byteOffset + at + ATTRIBUTE_HEADER, length - ATTRIBUTE_HEADER)
    found.set(body.getUint16(at + 2, true) & ATTRIBUTE_TYPE, value)
    at += aligned(length)
  }
  return found
}

/** The content of an NLMSG_ERROR: `errno` is 0 in an acknowledgement; `text` is the kernel's own explanation. */
export function errorOf({ flags, body }: Message): { errno: number; text: string } {
  const errno = -body.getInt32(0, true)
  // The request's header follows, without its body (NETLINK_CAP_ACK), then the attributes.
  const explanation = flags & NLM_F_ACK_TLVS ? attributes(body, 4 + HEADER).get(NLMSGERR_ATTR_MSG) : undefined
  return { errno, text: explanation ? textOf(explanation) : '' }
}

export const textOf = (value: DataView): string => {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  const end = bytes.indexOf(0)
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end)
}

/** A copy of an attribute's bytes, since the next datagram overwrites the memory that they lie in. */
export const bytesOf = (value: DataView): Uint8Array =>
  new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice()

/** A text attribute, with its final zero. */
export const stringZ = (text: string): Uint8Array => Uint8Array.from([...Buffer.from(text), 0])

/** A 32-bit attribute of a family whose numbers have the network's byte order. */
export const be32 = (value: number): Uint8Array =>
  Uint8Array.of((value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255)

/** A 32-bit attribute; also an IPv4 address as loaded from a packet: network order, read little-endian. */
export const int32 = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer)
