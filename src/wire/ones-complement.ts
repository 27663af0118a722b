// One's complement addition of 16-bit words, RFC 1071: what the IPv4 header checksum and the transport checksums are
// both made of. A file of its own because checksum.ts reads IPv4 headers and ipv4.ts checks them.

/**
 * Adds what lies above the low 16 bits of a sum to them (the end-around carry) until nothing is left above. `sum` is
 * taken as unsigned, any 32 bits. The result is 0 only for 0: any other sum of zero comes out as 0xffff.
 */
export function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16)
  return (once + (once >>> 16)) & 0xffff
}
