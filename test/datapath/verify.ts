// What must hold for every frame that a gateway sends, whatever went in: computed in full and bytewise, with nothing of
// src/wire, so that one mistake can't hide another.

const VIRTIO = 10
const NEEDS_CHECKSUM = 1
const GSO = 1
const [UDPLITE, DCCP] = [136, 33]
const CHECKSUM_OFFSETS: Readonly<Record<number, number>> = { 1: 2, 6: 16, 17: 6, [UDPLITE]: 6, [DCCP]: 6 }

/** The 16-bit one's complement sum of the bytes, an odd last one filled up with a zero. */
export function sumOf(bytes: Uint8Array, start = 0): number {
  let sum = start
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return sum
}

const word = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!

const pseudoSum = (ip: Uint8Array, length: number): number =>
  sumOf(Uint8Array.of(...ip.subarray(12, 20), 0, ip[9]!, length >>> 8, length & 0xff))

/** What is wrong with a frame that begins with its virtio-net header; empty if nothing is. */
export function faultsOf(sent: Uint8Array, transport = true): string[] {
  const frame = sent.subarray(VIRTIO)
  if (frame.length < 34) return [`a frame of ${frame.length} bytes`]
  if (word(frame, 12) !== 0x0800) return [`type ${word(frame, 12)}`]
  const ip = frame.subarray(14)
  const faults = headerFaults(ip)
  if (word(ip, 2) !== ip.length) faults.push(`total length ${word(ip, 2)} of a packet of ${ip.length} bytes`)
  if (frame[0]! & 1 || frame.subarray(0, 6).every((byte) => byte === 0)) faults.push('no single receiver')
  if (!transport || faults.length > 0 || (word(ip, 6) & 0x3fff) !== 0) return faults
  return sent[0]! & NEEDS_CHECKSUM ? partialFaults(sent, ip) : [...transportFaults(ip), ...embeddedFaults(ip)]
}

function headerFaults(ip: Uint8Array): string[] {
  const length = (ip[0]! & 15) * 4
  if (ip[0]! >>> 4 !== 4 || length < 20 || length > ip.length) return [`first byte ${ip[0]} of an IPv4 header`]
  return sumOf(ip.subarray(0, length)) === 0xffff ? [] : ['IPv4 header checksum']
}

/** What is wrong with the transport checksum of a whole packet. */
function transportFaults(ip: Uint8Array): string[] {
  const body = ip.subarray((ip[0]! & 15) * 4, word(ip, 2))
  const protocol = ip[9]!
  const offset = CHECKSUM_OFFSETS[protocol]
  if (offset === undefined || (protocol === 17 && word(body, 6) === 0)) return []
  if (body.length < offset + 2) return [`protocol ${protocol} in ${body.length} bytes`]
  const covered = body.subarray(0, coverageOf(protocol, body))
  // UDP-Lite's pseudo-header has the length of all, whatever is covered (RFC 3828 3.1); so has DCCP's (RFC 4340 9.1).
  const start = protocol === 1 ? 0 : pseudoSum(ip, protocol === 17 ? covered.length : body.length)
  return sumOf(covered, start) === 0xffff ? [] : [`transport checksum of protocol ${protocol}`]
}

/** How many bytes of the transport header and what follows it the checksum covers. */
function coverageOf(protocol: number, body: Uint8Array): number {
  if (protocol === 17) return word(body, 4)
  // 0: everything (RFC 3828 3.1).
  if (protocol === UDPLITE) return word(body, 4) || body.length
  // The header, whose length is told in words, and one word less than CsCov of what follows; 0: all (RFC 4340 9.2).
  const coverage = body[5]! & 15
  return protocol === DCCP && coverage > 0 ? body[4]! * 4 + (coverage - 1) * 4 : body.length
}

/** The sum of the pseudo-header stands in the field; where it is and what it covers, in the virtio-net header. */
function partialFaults(sent: Uint8Array, ip: Uint8Array): string[] {
  const headerLength = (ip[0]! & 15) * 4
  const offset = CHECKSUM_OFFSETS[ip[9]!]!
  const faults: string[] = []
  if ((sent[6]! | (sent[7]! << 8)) !== 14 + headerLength) faults.push('virtio-net: where the checksum begins')
  if ((sent[8]! | (sent[9]! << 8)) !== offset) faults.push('virtio-net: where the checksum is')
  const body = ip.subarray(headerLength)
  if (word(body, offset) !== pseudoSum(ip, body.length)) faults.push('partial checksum')
  if ((sent[1]! & 0x7f) === GSO && (sent[4]! | (sent[5]! << 8)) === 0) faults.push('virtio-net: segments without size')
  return faults
}

const ERRORS = [3, 4, 5, 11, 12]

/** An ICMP error embeds what its receiver has sent: that must be right as far as it goes. */
function embeddedFaults(ip: Uint8Array): string[] {
  const body = ip.subarray((ip[0]! & 15) * 4)
  if (ip[9] !== 1 || !ERRORS.includes(body[0]!)) return []
  const embedded = body.subarray(8)
  const faults = headerFaults(embedded)
  const whole = word(embedded, 2) <= embedded.length && (word(embedded, 6) & 0x3fff) === 0
  if (faults.length === 0 && whole) faults.push(...transportFaults(embedded))
  return faults.map((fault) => `embedded: ${fault}`)
}
